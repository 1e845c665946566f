import { Anchor, Group, Paper, Stack, Text } from "@mantine/core";
import { IconChecks } from "@tabler/icons-react";
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { Link } from "react-router";

import { api, bodyOf } from "../../api/client";
import type { FailedPayment, FailedPaymentsQuery } from "../../api/models";
import { type Column } from "../../components/DataTable";
import { EmptyState } from "../../components/EmptyState";
import { ChoiceFilter, ClearFilters, useFilters } from "../../components/Filters";
import { Pager } from "../../components/Pager";
import { PersonLink } from "../../components/PersonLink";
import { QueryTable } from "../../components/QueryTable";
import { EnvironmentTag } from "../../components/states";
import { Tag } from "../../components/Tag";
import { Timestamp } from "../../components/Timestamp";
import { keysOf, oneOf } from "../../logic/filters";
import { formatMoney, formatNumber } from "../../logic/format";
import { declineOf, FAILED_KINDS, failedState } from "../../logic/refills";
import { ENVIRONMENTS } from "../users/labels";

/** Payments of subscriptions and refills that failed and are still due, over all users. */
export function FailedPayments() {
  const { get } = useFilters();
  const query: FailedPaymentsQuery = {
    kind: oneOf(get("kind"), keysOf(FAILED_KINDS)),
    environment: oneOf(get("environment"), keysOf(ENVIRONMENTS)),
    cursor: get("cursor"),
  };
  const { data, error, refetch, isPlaceholderData } = useQuery({
    queryKey: ["failed-payments", query],
    queryFn: ({ signal }) => bodyOf(api.GET("/admin/failed-payments", { params: { query }, signal })),
    placeholderData: keepPreviousData,
  });
  return (
    <Paper withBorder p={{ base: "sm", sm: "md" }}>
      <Group component="search" gap="sm" align="flex-end" mb="sm">
        <ChoiceFilter name="kind" label="Payment" choices={FAILED_KINDS} width={200} />
        <ChoiceFilter name="environment" label="Environment" choices={ENVIRONMENTS} width={130} />
        <ClearFilters keep={["tab"]} />
      </Group>
      <QueryTable
        error={error}
        onRetry={() => void refetch()}
        label="Failed payments"
        columns={COLUMNS}
        rows={data?.payments}
        rowKey={({ kind, account_id, invoice_id, purchase_id }) => `${kind} ${account_id} ${invoice_id ?? purchase_id ?? ""}`}
        busy={isPlaceholderData}
        empty={
          <EmptyState title="No failed payments" icon={<IconChecks size={22} stroke={1.5} aria-hidden />}>
            Declined renewals and refills are listed here until they are paid.
          </EmptyState>
        }
      />
      <Pager nextCursor={data?.next_cursor} />
    </Paper>
  );
}

const COLUMNS: Column<FailedPayment>[] = [
  { name: "Payment", cell: (payment) => <Payment payment={payment} /> },
  { name: "State", cell: (payment) => <Tag tone={payment.next_attempt_at === null ? "bad" : "warn"}>{failedState(payment)}</Tag> },
  { name: "Amount", cell: ({ amount_minor, currency }) => formatMoney(amount_minor, currency), numeric: true },
  { name: "Next attempt", cell: ({ next_attempt_at }) => <Timestamp at={next_attempt_at} missing="None planned" />, from: "sm" },
  { name: "Failed attempts", cell: ({ attempts }) => formatNumber(attempts), numeric: true, from: "xl" },
  { name: "Reason", cell: ({ decline }) => (decline === null ? "—" : declineOf(decline)), from: "md" },
  { name: "Environment", cell: ({ environment }) => <EnvironmentTag environment={environment} />, from: "xl" },
  { name: "Failed", cell: ({ since }) => <Timestamp at={since} />, from: "sm" },
];

function Payment({ payment: { kind, account_id, payer, subscription_id, purchase_id, next_attempt_at } }: { payment: FailedPayment }) {
  return (
    <Stack gap={0}>
      <Anchor component={Link} to={pageOf(account_id, subscription_id, purchase_id)} size="sm" fw={600}>
        {FAILED_KINDS[kind]}
      </Anchor>
      <PersonLink person={payer} accountId={account_id} size="xs" />
      {next_attempt_at !== null && (
        <Text size="xs" c="dimmed" hiddenFrom="sm">
          next <Timestamp at={next_attempt_at} />
        </Text>
      )}
    </Stack>
  );
}

function pageOf(accountId: string, subscriptionId: string | null, purchaseId: string | null): string {
  if (subscriptionId !== null) return `/subscriptions/${accountId}/${subscriptionId}`;
  return purchaseId === null ? `/users/${accountId}` : `/purchases/${purchaseId}`;
}
