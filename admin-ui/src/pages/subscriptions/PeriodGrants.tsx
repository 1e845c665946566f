import { Stack, Text } from "@mantine/core";

import type { PeriodGrant } from "../../api/models";
import { DataTable, type Column } from "../../components/DataTable";
import { EmptyState } from "../../components/EmptyState";
import { Tag } from "../../components/Tag";
import { Timestamp } from "../../components/Timestamp";
import { isZero } from "../../logic/decimals";
import { humanize } from "../../logic/format";
import { grantAmount } from "../../logic/grants";
import { kindOf, takenBack } from "../../logic/subscriptions";

/** The grants of paid periods. */
export function PeriodGrants({ grants }: { grants: PeriodGrant[] }) {
  return (
    <DataTable
      label="Grants of paid periods"
      columns={COLUMNS}
      rows={grants}
      rowKey={({ period_start, kind }) => `${period_start} ${kind}`}
      empty={<EmptyState title="No grants yet">A paid period gives the grants of its plan, once each.</EmptyState>}
    />
  );
}

const COLUMNS: Column<PeriodGrant>[] = [
  { name: "Amount", cell: (grant) => <Amount grant={grant} /> },
  {
    name: "Period",
    cell: ({ period_start, period_end }) => (
      <Stack gap={0}>
        <Timestamp at={period_start} />
        <Text size="xs" c="dimmed">
          to <Timestamp at={period_end} />
        </Text>
      </Stack>
    ),
  },
  { name: "Plan", cell: ({ plan_name }) => humanize(plan_name), from: "sm" },
  { name: "Taken back", cell: (grant) => takenBack(grant) ?? "—", numeric: true, from: "sm" },
  { name: "Given", cell: ({ given, created_at }) => (given ? <Timestamp at={created_at} /> : <Tag tone="quiet">Expired before its period was recorded</Tag>), from: "md" },
];

function Amount({ grant }: { grant: PeriodGrant }) {
  const { amount, carried, unit, kind } = grant;
  return (
    <Stack gap={0}>
      <Text size="sm" fw={600} className="numeric">
        {grantAmount(amount, unit)}
      </Text>
      <Text size="xs" c="dimmed">
        {kindOf(kind)}
        {!isZero(carried) && `, ${grantAmount(carried, unit)} of it carried over`}
      </Text>
      {takenBack(grant) !== null && (
        <Text size="xs" c="dimmed" hiddenFrom="sm">
          {takenBack(grant)} taken back
        </Text>
      )}
    </Stack>
  );
}
