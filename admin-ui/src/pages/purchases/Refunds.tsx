import { Text } from "@mantine/core";

import type { Purchase, Refund } from "../../api/models";
import { Copyable } from "../../components/Copyable";
import { DataTable } from "../../components/DataTable";
import { Section } from "../../components/Section";
import { Tag, type Tone } from "../../components/Tag";
import { Timestamp } from "../../components/Timestamp";
import { formatMoney, humanize } from "../../logic/format";
import { currencyOf, unexplainedRefunds } from "../../logic/purchases";

const STATUS: Record<Refund["status"], Tone> = {
  pending: "warn",
  requires_action: "warn",
  succeeded: "good",
  canceled: "quiet",
  failed: "bad",
};

/** Each refund with its amount, who asked for it and why. */
export function Refunds({ purchase }: { purchase: Purchase }) {
  const currency = currencyOf(purchase);
  const rest = unexplainedRefunds(purchase);
  if (purchase.refunds.length === 0 && rest === 0) return null;
  return (
    <Section title="Refunds">
      <DataTable
        label="Refunds"
        rows={purchase.refunds}
        rowKey={(refund) => refund.refund_id}
        empty={null}
        columns={[
          { name: "Amount", cell: ({ amount_minor }) => formatMoney(amount_minor, currency), numeric: true },
          { name: "Status", cell: ({ status }) => <Tag tone={STATUS[status]}>{humanize(status)}</Tag> },
          { name: "Asked for by", cell: ({ asked_by }) => <span style={{ overflowWrap: "anywhere" }}>{asked_by ?? "At Stripe"}</span> },
          { name: "Reason", cell: ({ reason }) => <span style={{ overflowWrap: "anywhere" }}>{reason ?? "—"}</span> },
          { name: "Created", cell: (refund) => <Timestamp at={refund.created_at} />, from: "sm" },
          { name: "Id", cell: (refund) => <Copyable value={refund.refund_id} what="the refund's id" short />, from: "lg" },
        ]}
      />
      {rest > 0 && (
        <Text size="xs" c="dimmed" mt="xs">
          {formatMoney(rest, currency)} more was refunded, of which Stripe reported only the total.
        </Text>
      )}
    </Section>
  );
}
