import { Anchor } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { IconChecks } from "@tabler/icons-react";
import { Link } from "react-router";

import { api, bodyOf } from "../../api/client";
import type { InboxEvent } from "../../api/models";
import { Copyable } from "../../components/Copyable";
import { DataTable, type Column } from "../../components/DataTable";
import { EmptyState } from "../../components/EmptyState";
import { ErrorAlert } from "../../components/ErrorAlert";
import { Section } from "../../components/Section";
import { EnvironmentTag } from "../../components/states";
import { Timestamp } from "../../components/Timestamp";

/** The last webhooks that a person has to look at: money that did not arrive as agreed. */
export function Inbox({ everyMs }: { everyMs: number }) {
  const { data, error, refetch } = useQuery({
    queryKey: ["events", "review"],
    queryFn: ({ signal }) =>
      bodyOf(api.GET("/admin/system/events", { params: { query: { outcome: "review", limit: 20 } }, signal })),
    refetchInterval: everyMs,
  });
  return (
    <Section title="Webhooks for review">
      {error ? (
        <ErrorAlert error={error} onRetry={() => void refetch()} />
      ) : (
        <DataTable
          label="Webhooks for review"
          columns={COLUMNS}
          rows={data?.events}
          rowKey={(event) => `${event.environment}-${event.event_id}`}
          empty={
            <EmptyState title="Nothing here, as it should be" icon={<IconChecks size={22} stroke={1.5} aria-hidden />}>
              An event of a payment that did not arrive as agreed would be listed here.
            </EmptyState>
          }
        />
      )}
    </Section>
  );
}

const COLUMNS: Column<InboxEvent>[] = [
  { name: "Received", cell: (event) => <Timestamp at={event.received_at} /> },
  { name: "Event", cell: (event) => <span style={{ overflowWrap: "anywhere" }}>{event.type}</span> },
  { name: "Purchase", cell: (event) => <PurchaseLink event={event} /> },
  { name: "Environment", cell: (event) => <EnvironmentTag environment={event.environment} />, from: "sm" },
  { name: "Id", cell: (event) => <Copyable value={event.event_id} what="the event's id" short />, from: "md" },
];

function PurchaseLink({ event }: { event: InboxEvent }) {
  if (event.purchase_id === null) return "None of ours";
  return (
    <Anchor component={Link} size="sm" to={`/purchases/${event.purchase_id}`}>
      Look at it
    </Anchor>
  );
}
