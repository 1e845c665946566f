import { Anchor, Box, Group, Paper, SegmentedControl, Stack, Text } from "@mantine/core";
import { IconChecks } from "@tabler/icons-react";
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { Link } from "react-router";

import { api, bodyOf } from "../../api/client";
import type { PurchaseRow, PurchasesQuery } from "../../api/models";
import { Copyable } from "../../components/Copyable";
import { type Column } from "../../components/DataTable";
import { EmptyState } from "../../components/EmptyState";
import { ExportButton } from "../../components/ExportButton";
import { ClearFilters, ChoiceFilter, DayFilter, TextFilter, useFilters } from "../../components/Filters";
import { Page } from "../../components/Page";
import { PersonLink } from "../../components/PersonLink";
import { Pager } from "../../components/Pager";
import { QueryTable } from "../../components/QueryTable";
import { RoleButton } from "../../components/RoleButton";
import { EnvironmentTag, PurchaseTag } from "../../components/states";
import { Tag } from "../../components/Tag";
import { Timestamp } from "../../components/Timestamp";
import { startOfDay } from "../../logic/dates";
import { isUuid, keysOf, oneOf } from "../../logic/filters";
import { formatMoney, humanize } from "../../logic/format";
import { cardOf } from "../../logic/names";
import { amountFilter, boughtBy, currencyOf, isUncredited, PURCHASE_STATES } from "../../logic/purchases";
import { ENVIRONMENTS } from "../users/labels";
import { priceOf, VIEWS, type View } from "./labels";
import { LastReconciliation } from "./LastReconciliation";
import { ReconcileAllDialog } from "./ReconcileDialogs";

export function PurchasesPage() {
  const { get, set, filtered } = useFilters();
  const [reconciling, setReconciling] = useState(false);
  const view = oneOf(get("view"), keysOf(VIEWS));
  const accountId = get("account_id") ?? "";
  const amount = amountFilter(get("amount") ?? "");
  const filters = {
    view,
    buyer: get("buyer"),
    card_last4: get("card_last4"),
    amount_minor: amount?.amount_minor ?? null,
    currency: amount?.currency ?? null,
    since: startOfDay(get("since") ?? ""),
    until: startOfDay(get("until") ?? "", 1),
    account_id: isUuid(accountId) ? accountId : null,
    payment_id: get("payment_id"),
    status: oneOf(get("status"), keysOf(PURCHASE_STATES)),
    environment: oneOf(get("environment"), keysOf(ENVIRONMENTS)),
  };
  const query: PurchasesQuery = { ...filters, cursor: get("cursor") };
  const { data, error, refetch, isPlaceholderData } = useQuery({
    queryKey: ["purchases", query],
    queryFn: ({ signal }) => bodyOf(api.GET("/admin/purchases", { params: { query }, signal })),
    placeholderData: keepPreviousData,
  });
  return (
    <Page
      title="Purchases"
      subtitle="Sales of price packs, with the state of their payments and credits."
      actions={
        <Group gap="sm">
          <ExportButton needs="support" path="/admin/purchases.csv" filters={{ ...filters, amount_minor: amount ? String(amount.amount_minor) : null }} />
          <RoleButton needs="support" onClick={() => setReconciling(true)}>
            Reconcile all
          </RoleButton>
        </Group>
      }
    >
      <div>
        <LastReconciliation />
        <Paper withBorder p={{ base: "sm", sm: "md" }}>
          <SegmentedControl
            aria-label="View"
            fullWidth
            mb="md"
            visibleFrom="sm"
            value={view ?? "all"}
            onChange={(chosen) => set("view", chosen === "all" ? null : chosen)}
            data={[{ value: "all", label: "All" }, ...keysOf(VIEWS).map((value) => ({ value, label: VIEWS[value] }))]}
          />
          <Group component="search" gap="sm" align="flex-end" mb="sm">
            <Box hiddenFrom="sm" w="100%">
              <ChoiceFilter name="view" label="View" choices={VIEWS} wide />
            </Box>
            <TextFilter name="buyer" label="Buyer" placeholder="E-mail, name, external id" width={230} />
            <TextFilter name="amount" label="Amount" placeholder="5.00 USD" width={120} narrow />
            <TextFilter name="card_last4" label="Last four" placeholder="4242" width={110} narrow />
            <DayFilter name="since" label="From" />
            <DayFilter name="until" label="To" />
            <ChoiceFilter name="status" label="Status" choices={PURCHASE_STATES} width={170} />
            <TextFilter name="payment_id" label="Payment id" placeholder="pi_…" width={170} narrow />
            <TextFilter name="account_id" label="Account id" width={170} narrow />
            <ChoiceFilter name="environment" label="Environment" choices={ENVIRONMENTS} width={130} />
            <ClearFilters />
          </Group>
          <QueryTable
            error={error}
            onRetry={() => void refetch()}
            label="Purchases"
            columns={COLUMNS}
            rows={data?.purchases}
            rowKey={(purchase) => purchase.purchase_id}
            busy={isPlaceholderData}
            empty={<Nothing view={view} filtered={filtered} />}
          />
          <Pager nextCursor={data?.next_cursor} />
        </Paper>
      </div>
      {reconciling && <ReconcileAllDialog onClose={() => setReconciling(false)} />}
    </Page>
  );
}

const COLUMNS: Column<PurchaseRow>[] = [
  { name: "Purchase", cell: (purchase) => <PurchaseCell purchase={purchase} /> },
  { name: "Paid with", cell: (purchase) => <Card purchase={purchase} />, from: "md" },
  { name: "Status", cell: (purchase) => <Status purchase={purchase} /> },
  { name: "Amount", cell: priceOf, numeric: true },
  { name: "Refunded", cell: (p) => <Refunded purchase={p} />, numeric: true, from: "md" },
  { name: "Bought", cell: boughtBy, numeric: true, from: "sm" },
  { name: "Environment", cell: (purchase) => <EnvironmentTag environment={purchase.environment} />, from: "md" },
  { name: "Payment", cell: (purchase) => <PaymentId purchase={purchase} />, from: "xl" },
  { name: "Created", cell: (purchase) => <Timestamp at={purchase.created_at} />, from: "sm" },
];

function PurchaseCell({ purchase }: { purchase: PurchaseRow }) {
  return (
    <Stack gap={0}>
      <Anchor component={Link} to={`/purchases/${purchase.purchase_id}`} size="sm" fw={600}>
        {humanize(purchase.pack)}
      </Anchor>
      <PersonLink person={purchase.buyer} accountId={purchase.account_id} size="xs" />
    </Stack>
  );
}

function Card({ purchase }: { purchase: PurchaseRow }) {
  const card = cardOf(purchase);
  return card === null ? <Text span inherit c="dimmed">—</Text> : <span className="numeric">{card}</span>;
}

function Status({ purchase }: { purchase: PurchaseRow }) {
  return (
    <Group gap={4}>
      <PurchaseTag state={purchase.state} />
      {purchase.review_reason !== null && <Tag tone="bad">For review</Tag>}
      {isUncredited(purchase) && <Tag tone="bad">Not credited</Tag>}
    </Group>
  );
}

function Refunded({ purchase }: { purchase: PurchaseRow }) {
  if (purchase.refunded_minor === 0) return <Text span inherit c="dimmed">—</Text>;
  return formatMoney(purchase.refunded_minor, currencyOf(purchase));
}

function PaymentId({ purchase }: { purchase: PurchaseRow }) {
  if (purchase.payment_id === null) return <Text span inherit c="dimmed">—</Text>;
  return <Copyable value={purchase.payment_id} what="the payment id" short />;
}

function Nothing({ view, filtered }: { view: View | null; filtered: boolean }) {
  if (view !== null) {
    return (
      <EmptyState title="No issues found" icon={<IconChecks size={22} stroke={1.5} aria-hidden />}>
        {VIEW_HINTS[view]}
      </EmptyState>
    );
  }
  if (filtered) {
    return (
      <EmptyState title="No matching purchases">
        Enter complete ids and amounts; an amount without a currency has two decimal places. Days are in your time zone,
        both included.
      </EmptyState>
    );
  }
  return (
    <EmptyState title="No purchases yet">A purchase is listed when a user starts to buy a price pack.</EmptyState>
  );
}

const VIEW_HINTS: Record<View, string> = {
  paid_not_credited: "Payments whose credits were not booked are listed here. Reconcile to check with Stripe.",
  refunded_but_credited: "Refunded purchases whose credits were not taken back are listed here.",
  for_review: "Payments with another amount or currency than the price, and payments to closed accounts, are listed here.",
};
