import { Stack, Text } from "@mantine/core";

import type { SubscriptionDetails, SubscriptionEvent, SubscriptionInvoice } from "../../api/models";
import { Copyable } from "../../components/Copyable";
import { type Column } from "../../components/DataTable";
import { EmptyState } from "../../components/EmptyState";
import { TableSection } from "../../components/TableSection";
import { Tag, type Tone } from "../../components/Tag";
import { Timestamp } from "../../components/Timestamp";
import { formatCount, formatMoney, humanize } from "../../logic/format";
import { effectOf, moneyBack } from "../../logic/subscriptions";

const INVOICE: Record<SubscriptionInvoice["status"], Tone> = {
  draft: "quiet",
  open: "warn",
  uncollectible: "bad",
  void: "quiet",
  paid: "good",
};

/** The invoices of a subscription, with their payments, refunds and disputes. */
export function Invoices({ one }: { one: SubscriptionDetails }) {
  return (
    <TableSection
      title="Invoices and payments"
      rows={one.invoices}
      rowKey={({ invoice_id }) => invoice_id}
      columns={INVOICE_COLUMNS}
      wide
      empty={<EmptyState title="No invoices yet">Stripe reports an invoice for each period.</EmptyState>}
    />
  );
}

const INVOICE_COLUMNS: Column<SubscriptionInvoice>[] = [
  { name: "Due", cell: ({ created_at }) => <Timestamp at={created_at} /> },
  { name: "Status", cell: (invoice) => <InvoiceStatus invoice={invoice} /> },
  { name: "Amount", cell: ({ amount_due_minor, currency }) => formatMoney(amount_due_minor, currency), numeric: true },
  { name: "Refunds and disputes", cell: (invoice) => <MoneyBack invoice={invoice} />, from: "sm" },
  { name: "Payments", cell: (invoice) => <Payments invoice={invoice} />, from: "lg" },
  { name: "Invoice", cell: ({ invoice_id }) => <Copyable value={invoice_id} what="the invoice id" short />, from: "md" },
];

function InvoiceStatus({ invoice }: { invoice: SubscriptionInvoice }) {
  const { status, attempts, next_attempt_at } = invoice;
  return (
    <Stack gap={2} align="flex-start">
      <Tag tone={INVOICE[status]}>{humanize(status)}</Tag>
      {status === "open" && attempts > 0 && (
        <Text size="xs" c="dimmed">
          {formatCount(attempts, "failed attempt")}
          {next_attempt_at !== null && (
            <>
              , next <Timestamp at={next_attempt_at} />
            </>
          )}
        </Text>
      )}
    </Stack>
  );
}

function MoneyBack({ invoice }: { invoice: SubscriptionInvoice }) {
  const { refunds, disputes, currency } = invoice;
  if (moneyBack(invoice) === null && refunds.length + disputes.length === 0) return <Text span inherit c="dimmed">—</Text>;
  return (
    <Stack gap={2}>
      {refunds.map(({ refund_id, amount_minor, status, created_at }) => (
        <Text key={refund_id} size="xs">
          Refund {formatMoney(amount_minor, currency)}, {status}, <Timestamp at={created_at} />
        </Text>
      ))}
      {disputes.map(({ dispute_id, amount_minor, status }) => (
        <Text key={dispute_id} size="xs">
          Dispute {formatMoney(amount_minor, currency)}, {status}
        </Text>
      ))}
      {moneyBack(invoice) !== null && (
        <Text size="xs" c="dimmed">
          {moneyBack(invoice)}
        </Text>
      )}
    </Stack>
  );
}

function Payments({ invoice: { payment_ids } }: { invoice: SubscriptionInvoice }) {
  if (payment_ids.length === 0) return <Text span inherit c="dimmed">—</Text>;
  return (
    <Stack gap={2}>
      {payment_ids.map((id) => (
        <Copyable key={id} value={id} what="the payment id" short />
      ))}
    </Stack>
  );
}

/** Stripe's events about a subscription, its invoices and their payments. */
export function Events({ one }: { one: SubscriptionDetails }) {
  return (
    <TableSection
      title="Events from Stripe"
      aside={
        <Text size="xs" c="dimmed">
          In order of receipt
        </Text>
      }
      rows={one.events}
      rowKey={({ event_id }) => event_id}
      columns={EVENT_COLUMNS}
      wide
      empty={
        <EmptyState title="No events">
          Events that were received before version 0047 of the schema do not name their subscription.
        </EmptyState>
      }
    />
  );
}

const EVENT_COLUMNS: Column<SubscriptionEvent>[] = [
  { name: "Received", cell: ({ received_at }) => <Timestamp at={received_at} exact /> },
  { name: "Event", cell: ({ type }) => <span style={{ overflowWrap: "anywhere" }}>{type}</span> },
  { name: "Effect", cell: (event) => <Tag tone={toneOf(event)}>{effectOf(event)}</Tag> },
  { name: "About", cell: ({ about, object_id }) => (object_id === null ? humanize(about) : <Copyable value={object_id} what={`the ${about} id`} short />), from: "md" },
  { name: "Sent", cell: ({ created_at }) => <Timestamp at={created_at} />, from: "lg" },
  { name: "Id", cell: ({ event_id }) => <Copyable value={event_id} what="the event id" short />, from: "xl" },
];

function toneOf({ outcome, given }: SubscriptionEvent): Tone {
  if (given.length > 0) return "good";
  return outcome === "review" ? "bad" : "quiet";
}
