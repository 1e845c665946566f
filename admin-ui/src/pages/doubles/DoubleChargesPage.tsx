import { Anchor, Group, Paper, Stack, Text } from "@mantine/core";
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { IconCopy } from "@tabler/icons-react";
import { Link } from "react-router";

import { api, bodyOf } from "../../api/client";
import type { DoubleCharge, DoubleChargesQuery } from "../../api/models";
import { Copyable } from "../../components/Copyable";
import { type Column } from "../../components/DataTable";
import { EmptyState } from "../../components/EmptyState";
import { ClearFilters, TextFilter, useFilters } from "../../components/Filters";
import { Page } from "../../components/Page";
import { Pager } from "../../components/Pager";
import { PersonLink } from "../../components/PersonLink";
import { QueryTable } from "../../components/QueryTable";
import { Timestamp } from "../../components/Timestamp";
import { isUuid, pathWith } from "../../logic/filters";
import { formatCredits } from "../../logic/format";
import { DOUBLE_CHARGE } from "../../logic/refusals";

export function DoubleChargesPage() {
  const { get, filtered } = useFilters();
  const account = get("account_id");
  const wrongAccount = account !== null && !isUuid(account);
  const query: DoubleChargesQuery = { account_id: wrongAccount ? null : account, key_id: get("key_id"), cursor: get("cursor") };
  const { data, error, refetch, isPlaceholderData } = useQuery({
    queryKey: ["double-charges", query],
    queryFn: ({ signal }) => bodyOf(api.GET("/admin/double-charges", { params: { query }, signal })),
    placeholderData: keepPreviousData,
    enabled: !wrongAccount,
  });
  return (
    <Page
      title="Double charges"
      subtitle="Charges with the request id, the description and the amount of an earlier one, under another idempotency key."
    >
      <Paper withBorder p={{ base: "sm", sm: "md" }}>
        <Group component="search" gap="sm" align="flex-end" mb="sm">
          <TextFilter name="account_id" label="Account id" width={340} />
          <TextFilter name="key_id" label="API key id" width={220} />
          <ClearFilters />
        </Group>
        <QueryTable
          error={error}
          onRetry={() => void refetch()}
          label="Double charges"
          columns={COLUMNS}
          rows={wrongAccount ? [] : data?.double_charges}
          rowKey={({ charge_id }) => charge_id}
          busy={isPlaceholderData}
          empty={<Nothing filtered={filtered} />}
        />
        <Pager nextCursor={data?.next_cursor} />
        <Text size="sm" mt="sm">
          API keys that refuse double charges answer 409 and charge nothing:{" "}
          <Anchor component={Link} size="sm" underline="always" to={pathWith("/refusals", { code: DOUBLE_CHARGE })}>
            Refused double charges
          </Anchor>
        </Text>
      </Paper>
    </Page>
  );
}

const COLUMNS: Column<DoubleCharge>[] = [
  { name: "Amount", cell: (double) => <Amount double={double} /> },
  { name: "Charges", cell: (double) => <Charges double={double} /> },
  { name: "User", cell: (double) => <User double={double} />, from: "sm" },
  { name: "API key", cell: ({ key_id, key_name }) => key_name ?? key_id, from: "md" },
  { name: "Request id", cell: ({ request_id }) => request_id !== null && <Copyable value={request_id} what="the request id" short />, from: "lg" },
];

function Amount({ double: { amount_minor, description } }: { double: DoubleCharge }) {
  return (
    <Stack gap={2}>
      <Text size="sm" fw={600}>
        {formatCredits(amount_minor / 100)} each
      </Text>
      {description !== null && (
        <Text size="xs" c="dimmed" style={{ overflowWrap: "anywhere" }}>
          {description}
        </Text>
      )}
    </Stack>
  );
}

function User({ double: { person, account_id } }: { double: DoubleCharge }) {
  return person === null ? <Copyable value={account_id} what="the account id" short /> : <PersonLink person={person} accountId={account_id} />;
}

function Charges({ double }: { double: DoubleCharge }) {
  return (
    <Stack gap={2}>
      <Charge accountId={double.account_id} name="First" idempotencyKey={double.first_idempotency_key} at={double.first_created_at} />
      <Charge accountId={double.account_id} name="Again" idempotencyKey={double.idempotency_key} at={double.created_at} />
    </Stack>
  );
}

/** A link to the charge in the user's timeline, which finds it by its idempotency key. */
function Charge(charge: { accountId: string; name: string; idempotencyKey: string | null; at: string }) {
  return (
    <Group gap={6}>
      <Anchor component={Link} size="sm" to={pathWith(`/users/${charge.accountId}`, { interaction: charge.idempotencyKey })}>
        {charge.name}
      </Anchor>
      <Text size="xs" c="dimmed">
        <Timestamp at={charge.at} exact />
      </Text>
    </Group>
  );
}

function Nothing({ filtered }: { filtered: boolean }) {
  return (
    <EmptyState title={filtered ? "No double charge matches" : "No double charges"} icon={<IconCopy size={22} stroke={1.5} aria-hidden />}>
      API keys whose double charges are flagged make these entries.
    </EmptyState>
  );
}
