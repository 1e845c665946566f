import { Text } from "@mantine/core";

import type { Purchase } from "../../api/models";
import { Copyable } from "../../components/Copyable";
import { EmptyState } from "../../components/EmptyState";
import { TableSection } from "../../components/TableSection";
import { Tag } from "../../components/Tag";
import { Timestamp } from "../../components/Timestamp";
import { formatMoney, humanize } from "../../logic/format";

export function Events({ purchase }: { purchase: Purchase }) {
  return (
    <TableSection
      title="Stripe events"
      aside={
        <Text size="xs" c="dimmed">
          In order of receipt
        </Text>
      }
      rows={purchase.events}
      rowKey={(event) => event.event_id}
      empty={
        <EmptyState title="No events yet">
          Stripe sends events within seconds of a payment. Reconcile to check with Stripe now.
        </EmptyState>
      }
      columns={[
        { name: "Received", cell: (event) => <Timestamp at={event.received_at} /> },
        { name: "Event", cell: (event) => <span style={{ overflowWrap: "anywhere" }}>{event.type}</span> },
        {
          name: "Outcome",
          cell: (event) => <Tag tone={event.outcome === "review" ? "bad" : "quiet"}>{humanize(event.outcome)}</Tag>,
        },
        { name: "Sent", cell: (event) => <Timestamp at={event.created_at} />, from: "md" },
        { name: "Id", cell: (event) => <Copyable value={event.event_id} what="the event id" short />, from: "sm" },
      ]}
    />
  );
}

export function Disputes({ purchase }: { purchase: Purchase }) {
  if (purchase.disputes.length === 0) return null;
  return (
    <TableSection
      title="Disputes"
      rows={purchase.disputes}
      rowKey={(dispute) => dispute.dispute_id}
      columns={[
        { name: "Dispute", cell: (dispute) => <Copyable value={dispute.dispute_id} what="the dispute id" short /> },
        {
          name: "Status",
          cell: ({ status }) => <Tag tone={status === "won" ? "good" : status === "lost" ? "bad" : "warn"}>{humanize(status)}</Tag>,
        },
        { name: "Amount", cell: ({ amount_minor }) => formatMoney(amount_minor, purchase.currency), numeric: true },
        { name: "Last updated", cell: (dispute) => <Timestamp at={dispute.updated_at} />, from: "sm" },
      ]}
    />
  );
}
