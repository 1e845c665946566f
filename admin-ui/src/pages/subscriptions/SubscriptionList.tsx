import { Anchor, Group, Paper, Stack } from "@mantine/core";
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { Link } from "react-router";

import { api, bodyOf } from "../../api/client";
import type { SubscriptionRow, SubscriptionsQuery } from "../../api/models";
import { type Column } from "../../components/DataTable";
import { EmptyState } from "../../components/EmptyState";
import { ChoiceFilter, ClearFilters, TextFilter, useFilters } from "../../components/Filters";
import { Pager } from "../../components/Pager";
import { PersonLink } from "../../components/PersonLink";
import { QueryTable } from "../../components/QueryTable";
import { EnvironmentTag } from "../../components/states";
import { Timestamp } from "../../components/Timestamp";
import { isFiltered, keysOf, oneOf } from "../../logic/filters";
import { planOf, priceOf, SUBSCRIPTION_STATUSES } from "../../logic/subscriptions";
import { ENVIRONMENTS } from "../users/labels";
import { NextPayment, Status } from "./cells";

const TAB = "tab";
const VIEWS: Record<NonNullable<SubscriptionsQuery["view"]>, string> = {
  subscribed: "Subscribed",
  canceling: "Ending soon",
  ended: "Ended",
};

export function SubscriptionList() {
  const { params, get } = useFilters();
  const query: SubscriptionsQuery = {
    status: oneOf(get("status"), keysOf(SUBSCRIPTION_STATUSES)),
    view: oneOf(get("view"), keysOf(VIEWS)),
    plan: get("plan"),
    environment: oneOf(get("environment"), keysOf(ENVIRONMENTS)),
    cursor: get("cursor"),
  };
  const { data, error, refetch, isPlaceholderData } = useQuery({
    queryKey: ["subscriptions", query],
    queryFn: ({ signal }) => bodyOf(api.GET("/admin/subscriptions", { params: { query }, signal })),
    placeholderData: keepPreviousData,
  });
  return (
    <Paper withBorder p={{ base: "sm", sm: "md" }}>
      <Group component="search" gap="sm" align="flex-end" mb="sm">
        <ChoiceFilter name="status" label="Status" choices={SUBSCRIPTION_STATUSES} width={180} />
        <ChoiceFilter name="view" label="View" choices={VIEWS} width={150} />
        <TextFilter name="plan" label="Plan" placeholder="standard" width={150} narrow />
        <ChoiceFilter name="environment" label="Environment" choices={ENVIRONMENTS} width={130} />
        <ClearFilters keep={[TAB]} />
      </Group>
      <QueryTable
        error={error}
        onRetry={() => void refetch()}
        label="Subscriptions"
        columns={COLUMNS}
        rows={data?.subscriptions}
        rowKey={({ subscription_id }) => subscription_id}
        busy={isPlaceholderData}
        empty={
          isFiltered(params, [TAB]) ? (
            <EmptyState title="No matching subscriptions">Enter the complete name of a plan, such as “standard”.</EmptyState>
          ) : (
            <EmptyState title="No subscriptions yet">A subscription is listed once Stripe reports it.</EmptyState>
          )
        }
      />
      <Pager nextCursor={data?.next_cursor} />
    </Paper>
  );
}

const COLUMNS: Column<SubscriptionRow>[] = [
  { name: "Plan", cell: (subscription) => <PlanCell subscription={subscription} /> },
  { name: "Status", cell: (subscription) => <Status subscription={subscription} /> },
  { name: "Price", cell: (subscription) => priceOf(subscription) ?? "—", numeric: true, from: "sm" },
  { name: "Next payment", cell: (subscription) => <NextPayment subscription={subscription} />, from: "md" },
  { name: "Period ends", cell: ({ period_end }) => <Timestamp at={period_end} />, from: "xl" },
  { name: "Environment", cell: ({ environment }) => <EnvironmentTag environment={environment} />, from: "xl" },
  { name: "Started", cell: ({ started_at }) => <Timestamp at={started_at} />, from: "md" },
];

function PlanCell({ subscription }: { subscription: SubscriptionRow }) {
  const { account_id, subscription_id, subscriber } = subscription;
  return (
    <Stack gap={0}>
      <Anchor component={Link} to={`/subscriptions/${account_id}/${subscription_id}`} size="sm" fw={600}>
        {planOf(subscription)}
      </Anchor>
      <PersonLink person={subscriber} accountId={account_id} size="xs" />
    </Stack>
  );
}
