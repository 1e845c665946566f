import { Text } from "@mantine/core";

import type { Purchase, Refund } from "../../api/models";
import { Copyable } from "../../components/Copyable";
import { TableSection } from "../../components/TableSection";
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

/** The refunds of a purchase, with requester and reason. */
export function Refunds({ purchase }: { purchase: Purchase }) {
  const currency = currencyOf(purchase);
  const rest = unexplainedRefunds(purchase);
  if (purchase.refunds.length === 0 && rest === 0) return null;
  return (
    <TableSection
      title="Refunds"
      rows={purchase.refunds}
      rowKey={(refund) => refund.refund_id}
      columns={[
        { name: "Amount", cell: ({ amount_minor }) => formatMoney(amount_minor, currency), numeric: true },
        { name: "Status", cell: ({ status }) => <Tag tone={STATUS[status]}>{humanize(status)}</Tag> },
        { name: "Requested by", cell: ({ asked_by }) => <span style={{ overflowWrap: "anywhere" }}>{asked_by ?? "Stripe dashboard"}</span> },
        { name: "Reason", cell: ({ reason }) => <span style={{ overflowWrap: "anywhere" }}>{reason ?? "—"}</span> },
        { name: "Created", cell: (refund) => <Timestamp at={refund.created_at} />, from: "sm" },
        { name: "Id", cell: (refund) => <Copyable value={refund.refund_id} what="the refund id" short />, from: "lg" },
      ]}
    >
      {rest > 0 && (
        <Text size="xs" c="dimmed" mt="xs">
          Another {formatMoney(rest, currency)} was refunded. Stripe reported only the total, not the single refunds.
        </Text>
      )}
    </TableSection>
  );
}
