import { Text, TextInput } from "@mantine/core";
import { useState } from "react";

import { api, bodyOf } from "../../api/client";
import type { Purchase } from "../../api/models";
import { ActionDialog } from "../../components/ActionDialog";
import { reasonProblem, ReasonField } from "../../components/ReasonField";
import { useIdempotencyKey } from "../../components/useIdempotencyKey";
import { formatMoney, parseMoney } from "../../logic/format";
import { UNUSUAL } from "../../logic/numbers";
import { currencyOf, takenByRefunds } from "../../logic/purchases";
import { refundable } from "./labels";

export function RefundDialog({ purchase, onClose }: { purchase: Purchase; onClose: () => void }) {
  const [text, setText] = useState("");
  const [reason, setReason] = useState("");
  const [key, onFailed] = useIdempotencyKey();
  const currency = currencyOf(purchase);
  const left = refundable(purchase);
  const all = text.trim() === "";
  const amount = all ? left : parseMoney(text, currency);
  const valid = amount !== null && amount > 0 && amount <= left;
  return (
    <ActionDialog
      title="Refund purchase"
      confirmLabel={valid ? `Refund ${formatMoney(amount, currency)}` : "Refund"}
      danger
      blocked={valid ? reasonProblem(reason) : left === 0 ? "Nothing left to refund" : `Enter an amount up to ${formatMoney(left, currency)}`}
      unusual={valid && amount > UNUSUAL.refundMinor ? formatMoney(amount, currency) : null}
      onClose={onClose}
      onFailed={onFailed}
      act={() =>
        bodyOf(
          api.POST("/admin/purchases/{purchase_id}/refund", {
            params: { path: { purchase_id: purchase.purchase_id } },
            body: {
              amount_minor: all ? null : amount,
              seen_refunded_minor: purchase.refunded_minor,
              reason: reason.trim(),
              idempotency_key: key,
            },
          }),
        )
      }
      done={(after) =>
        `${formatMoney(after.refunded_minor, currency)} refunded in total, ${takenByRefunds(after)} taken back so far`
      }
    >
      {(problemOf) => (
        <>
          <TextInput
            label={`Amount in ${currency.toUpperCase()}`}
            description={`Leave empty to refund the remaining ${formatMoney(left, currency)}.`}
            placeholder={formatMoney(left, currency).split(" ")[0]}
            inputMode="decimal"
            data-autofocus
            value={text}
            onChange={({ currentTarget }) => setText(currentTarget.value)}
            error={valid ? problemOf("amount_minor") : left === 0 ? "Nothing left to refund" : `Enter an amount up to ${formatMoney(left, currency)}`}
          />
          <ReasonField value={reason} onChange={setReason} error={problemOf("reason")} />
          <Text size="sm">
            Stripe returns the money to the original payment method; this cannot be undone. Credits are taken back in
            proportion; credits that are already spent become debt.
          </Text>
        </>
      )}
    </ActionDialog>
  );
}
