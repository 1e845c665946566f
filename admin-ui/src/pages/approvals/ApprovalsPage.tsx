import { Group, Paper, Stack, Text } from "@mantine/core";
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { IconChecks } from "@tabler/icons-react";
import { useState } from "react";

import { api, bodyOf } from "../../api/client";
import type { ApprovalsQuery, QueuedApproval } from "../../api/models";
import { type Column } from "../../components/DataTable";
import { EmptyState } from "../../components/EmptyState";
import { ChoiceFilter, useFilters } from "../../components/Filters";
import { Page } from "../../components/Page";
import { Pager } from "../../components/Pager";
import { PersonLink } from "../../components/PersonLink";
import { QueryTable } from "../../components/QueryTable";
import { RoleButton } from "../../components/RoleButton";
import { EnvironmentTag } from "../../components/states";
import { Tag, type Tone } from "../../components/Tag";
import { Timestamp } from "../../components/Timestamp";
import { approvalStatus, limitAmount, refusedBy, requesterOf } from "../../logic/approvals";
import { oneOf } from "../../logic/filters";
import { ApproveDialog } from "./ApproveDialog";
import { DenyDialog } from "./DenyDialog";

const SHOWN = { all: "All" } as const;
const TONES: Record<QueuedApproval["status"], Tone> = {
  pending: "warn",
  approved: "good",
  used: "info",
  denied: "bad",
  expired: "quiet",
};

export function ApprovalsPage() {
  const { get } = useFilters();
  const [open, setOpen] = useState<{ approval: QueuedApproval; allow: boolean } | null>(null);
  const query: ApprovalsQuery = { show: oneOf(get("show"), ["all"] as const) ?? "open", cursor: get("cursor") };
  const { data, error, refetch, isPlaceholderData } = useQuery({
    queryKey: ["approvals", query],
    queryFn: ({ signal }) => bodyOf(api.GET("/admin/approvals", { params: { query }, signal })),
    placeholderData: keepPreviousData,
    refetchInterval: 15_000,
  });
  const close = () => setOpen(null);
  return (
    <Page
      title="Approvals"
      subtitle="Requests above a limit that needs an approval, and runs that are paused or lack budget. Users can decide as well."
    >
      <Paper withBorder p={{ base: "sm", sm: "md" }}>
        <Group component="search" gap="sm" align="flex-end" mb="sm">
          <ChoiceFilter name="show" label="Show" choices={SHOWN} placeholder="Open" width={140} />
        </Group>
        <QueryTable
          error={error}
          onRetry={() => void refetch()}
          label="Approvals"
          columns={[...COLUMNS, actions((approval, allow) => setOpen({ approval, allow }))]}
          rows={data?.approvals}
          rowKey={(approval) => approval.approval_id}
          busy={isPlaceholderData}
          empty={<Nothing />}
        />
        <Pager nextCursor={data?.next_cursor} />
      </Paper>
      {open?.allow === true && <ApproveDialog approval={open.approval} onClose={close} />}
      {open?.allow === false && <DenyDialog approval={open.approval} onClose={close} />}
    </Page>
  );
}

const COLUMNS: Column<QueuedApproval>[] = [
  { name: "Request", cell: (approval) => <Request approval={approval} /> },
  { name: "User", cell: (approval) => <PersonLink person={approval.person} accountId={approval.account_id} />, from: "sm" },
  { name: "Status", cell: (approval) => <Tag tone={TONES[approval.status]}>{approvalStatus(approval)}</Tag>, from: "xs" },
  { name: "Environment", cell: (approval) => <EnvironmentTag environment={approval.environment} />, from: "lg" },
  { name: "Asked", cell: (approval) => <Timestamp at={approval.created_at} />, from: "md" },
  { name: "Until", cell: (approval) => <Timestamp at={approval.expires_at} />, from: "md" },
];

function actions(decide: (approval: QueuedApproval, allow: boolean) => void): Column<QueuedApproval> {
  return {
    name: "Decision",
    hiddenName: true,
    cell: (approval) =>
      approval.status === "pending" && (
        <Group gap="xs" justify="flex-end" wrap="nowrap">
          <RoleButton needs="support" size="xs" onClick={() => decide(approval, true)}>
            Approve
          </RoleButton>
          <RoleButton needs="support" size="xs" onClick={() => decide(approval, false)}>
            Deny
          </RoleButton>
        </Group>
      ),
  };
}

function Request({ approval }: { approval: QueuedApproval }) {
  return (
    <Stack gap={0}>
      <Text size="sm" fw={600}>
        {limitAmount(approval.amount, approval.unit)}
      </Text>
      <Text size="xs" c="dimmed" style={{ overflowWrap: "anywhere" }}>
        {requesterOf(approval)}
      </Text>
      <Text size="xs" c="dimmed" style={{ overflowWrap: "anywhere" }}>
        Refused by the {refusedBy(approval)}
      </Text>
    </Stack>
  );
}

function Nothing() {
  return (
    <EmptyState title="No requests wait" icon={<IconChecks size={22} stroke={1.5} aria-hidden />}>
      A request above a limit with the action “ask”, or in a run that refuses, waits here for a day.
    </EmptyState>
  );
}
