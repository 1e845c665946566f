import { Text } from "@mantine/core";

import type { Purchase } from "../../api/models";
import { Copyable } from "../../components/Copyable";
import { DataTable } from "../../components/DataTable";
import { EmptyState } from "../../components/EmptyState";
import { Section } from "../../components/Section";
import { Tag } from "../../components/Tag";
import { Timestamp } from "../../components/Timestamp";
import { formatMoney, humanize } from "../../logic/format";

export function Events({ purchase }: { purchase: Purchase }) {
  return (
    <Section
      title="What Stripe said"
      aside={
        <Text size="xs" c="dimmed">
          In the order in which it came
        </Text>
      }
    >
      <DataTable
        label="Stripe's events"
        rows={purchase.events}
        rowKey={(event) => event.event_id}
        empty={
          <EmptyState title="No event came yet">
            Stripe tells of a payment within seconds. Reconcile asks it now.
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
          { name: "Id", cell: (event) => <Copyable value={event.event_id} what="the event's id" short />, from: "sm" },
        ]}
      />
    </Section>
  );
}

export function Disputes({ purchase }: { purchase: Purchase }) {
  if (purchase.disputes.length === 0) return null;
  return (
    <Section title="Disputes">
      <DataTable
        label="Disputes"
        rows={purchase.disputes}
        rowKey={(dispute) => dispute.dispute_id}
        empty={null}
        columns={[
          { name: "Dispute", cell: (dispute) => <Copyable value={dispute.dispute_id} what="the dispute's id" short /> },
          {
            name: "Status",
            cell: ({ status }) => <Tag tone={status === "won" ? "good" : status === "lost" ? "bad" : "warn"}>{humanize(status)}</Tag>,
          },
          { name: "Amount", cell: ({ amount_minor }) => formatMoney(amount_minor, purchase.currency), numeric: true },
          { name: "Last change", cell: (dispute) => <Timestamp at={dispute.updated_at} />, from: "sm" },
        ]}
      />
    </Section>
  );
}
