import { Anchor } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { IconChecks } from "@tabler/icons-react";
import { Link } from "react-router";

import { api, bodyOf } from "../../api/client";
import type { InboxEvent } from "../../api/models";
import { Copyable } from "../../components/Copyable";
import { type Column } from "../../components/DataTable";
import { EmptyState } from "../../components/EmptyState";
import { QueryTable } from "../../components/QueryTable";
import { Section } from "../../components/Section";
import { EnvironmentTag } from "../../components/states";
import { Timestamp } from "../../components/Timestamp";

/** The latest webhook events that need review, such as payments with an unexpected amount. */
export function Inbox({ everyMs }: { everyMs: number }) {
  const { data, error, refetch } = useQuery({
    queryKey: ["events", "review"],
    queryFn: ({ signal }) =>
      bodyOf(api.GET("/admin/system/events", { params: { query: { outcome: "review", limit: 20 } }, signal })),
    refetchInterval: everyMs,
  });
  return (
    <Section title="Webhooks for review">
      <QueryTable
        error={error}
        onRetry={() => void refetch()}
        label="Webhooks for review"
        columns={COLUMNS}
        rows={data?.events}
        rowKey={(event) => `${event.environment}-${event.event_id}`}
        empty={
          <EmptyState title="No webhooks for review" icon={<IconChecks size={22} stroke={1.5} aria-hidden />}>
            Events of payments that do not match their purchase are listed here.
          </EmptyState>
        }
      />
    </Section>
  );
}

const COLUMNS: Column<InboxEvent>[] = [
  { name: "Received", cell: (event) => <Timestamp at={event.received_at} /> },
  { name: "Event", cell: (event) => <span style={{ overflowWrap: "anywhere" }}>{event.type}</span> },
  { name: "Purchase", cell: (event) => <PurchaseLink event={event} /> },
  { name: "Environment", cell: (event) => <EnvironmentTag environment={event.environment} />, from: "sm" },
  { name: "Id", cell: (event) => <Copyable value={event.event_id} what="the event id" short />, from: "md" },
];

function PurchaseLink({ event }: { event: InboxEvent }) {
  if (event.purchase_id === null) return "No matching purchase";
  return (
    <Anchor component={Link} size="sm" to={`/purchases/${event.purchase_id}`}>
      View purchase
    </Anchor>
  );
}
