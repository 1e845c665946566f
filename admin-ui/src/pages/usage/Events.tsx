import { Anchor, Stack, Text } from "@mantine/core";
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { Link } from "react-router";

import { api, bodyOf } from "../../api/client";
import type { UsageEvent } from "../../api/models";
import { type Column } from "../../components/DataTable";
import { EmptyState } from "../../components/EmptyState";
import { useFilters } from "../../components/Filters";
import { Pager } from "../../components/Pager";
import { PersonLink } from "../../components/PersonLink";
import { QueryTable } from "../../components/QueryTable";
import { Section } from "../../components/Section";
import { Tag } from "../../components/Tag";
import { Timestamp } from "../../components/Timestamp";
import { shortId } from "../../logic/format";
import { Amount } from "./amounts";
import { meterName, quantitiesText, STATUS_TONES, STATUSES } from "./labels";
import { useUsageFilters } from "./useUsageFilters";

/** The events that match the filters, newest first. */
export function Events() {
  const { get } = useFilters();
  const query = { ...useUsageFilters(), limit: 50, cursor: get("cursor") };
  const { data, error, refetch, isPlaceholderData } = useQuery({
    queryKey: ["usage", "events", query],
    queryFn: ({ signal }) => bodyOf(api.GET("/admin/usage/events", { params: { query }, signal })),
    placeholderData: keepPreviousData,
  });
  return (
    <Section title="Events">
      <QueryTable
        error={error}
        onRetry={() => void refetch()}
        label="Events"
        columns={COLUMNS}
        rows={data?.events}
        rowKey={({ transaction_id }) => transaction_id}
        busy={isPlaceholderData}
        empty={<EmptyState title="No usage">No events match these days and filters.</EmptyState>}
        wide
      />
      <Pager nextCursor={data?.next_cursor} />
    </Section>
  );
}

const COLUMNS: Column<UsageEvent>[] = [
  {
    name: "Time",
    cell: (event) => (
      <Anchor component={Link} size="sm" underline="always" to={`/usage/${event.account_id}/${event.transaction_id}`}>
        <Timestamp at={event.time} exact />
      </Anchor>
    ),
  },
  { name: "Usage", cell: (event) => <Used event={event} /> },
  { name: "User", cell: (event) => <User event={event} />, from: "sm" },
  { name: "Agent and tool", cell: ({ agent_id, tool }) => [agent_id, tool].filter(Boolean).join(", ") || "—", from: "lg" },
  { name: "Status", cell: ({ status }) => <Tag tone={STATUS_TONES[status]}>{STATUSES[status]}</Tag>, from: "sm" },
  { name: "Cost", numeric: true, cell: ({ cost, currency }) => <Amount amount={cost} currency={currency} /> },
];

function Used({ event }: { event: UsageEvent }) {
  return (
    <Stack gap={0}>
      <Text size="sm" style={{ overflowWrap: "anywhere" }}>
        {event.model ?? meterName(event.meter)}
      </Text>
      <Text size="xs" c="dimmed" style={{ overflowWrap: "anywhere" }}>
        {quantitiesText(event.quantities)}
      </Text>
    </Stack>
  );
}

function User({ event }: { event: UsageEvent }) {
  if (event.person === null) return shortId(event.account_id);
  return <PersonLink person={event.person} accountId={event.account_id} />;
}
