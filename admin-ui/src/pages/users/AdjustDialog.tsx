import { NumberInput, SegmentedControl, Text } from "@mantine/core";
import { useState } from "react";

import { api, bodyOf } from "../../api/client";
import type { User } from "../../api/models";
import { useMe } from "../../api/session";
import { ActionDialog } from "../../components/ActionDialog";
import { isReason, ReasonField } from "../../components/ReasonField";
import { useIdempotencyKey } from "../../components/useIdempotencyKey";
import { formatCredits } from "../../logic/format";
import { nameOf } from "../../logic/names";

const MOST = 1_000_000_000_000;

export function AdjustDialog({ user, onClose }: { user: User; onClose: () => void }) {
  const [direction, setDirection] = useState("give");
  const [amount, setAmount] = useState<number | string>("");
  const [reason, setReason] = useState("");
  const [key, onFailed] = useIdempotencyKey();
  const size = typeof amount === "number" && Number.isInteger(amount) && amount > 0 ? amount : null;
  const credits = size === null ? null : direction === "give" ? size : -size;
  const limit = useMe().credit_limit;
  const tooMany = credits !== null && user.paid + credits < 0;
  const overLimit = limit !== null && size !== null && size > limit;
  return (
    <ActionDialog
      title="Adjust credits"
      confirmLabel={credits === null ? "Adjust" : `${direction === "give" ? "Give" : "Take"} ${formatCredits(Math.abs(credits))}`}
      danger={direction === "take"}
      disabled={credits === null || tooMany || overLimit || !isReason(reason)}
      onClose={onClose}
      onFailed={onFailed}
      act={() =>
        bodyOf(
          api.POST("/admin/users/{account_id}/credits", {
            params: { path: { account_id: user.account_id } },
            body: { credits: credits ?? 0, reason: reason.trim(), idempotency_key: key },
          }),
        )
      }
      done={(reply) =>
        reply.replayed
          ? `This was booked before; the balance is ${formatCredits(reply.paid_after)}`
          : `Done: ${nameOf(user)} now has ${formatCredits(reply.paid_after)} paid`
      }
    >
      {(problemOf) => (
        <>
          <SegmentedControl
            fullWidth
            aria-label="Give or take"
            value={direction}
            onChange={setDirection}
            data={[
              { value: "give", label: "Give" },
              { value: "take", label: "Take away" },
            ]}
          />
          <NumberInput
            label="Credits"
            required
            data-autofocus
            min={1}
            max={MOST}
            allowDecimal={false}
            allowNegative={false}
            thousandSeparator=","
            value={amount}
            onChange={setAmount}
            description={limit === null ? undefined : `Your role may move ${formatCredits(limit)} at once`}
            error={
              tooMany
                ? `Only ${formatCredits(user.paid)} are there: nothing becomes debt`
                : overLimit
                  ? "More than your role may move at once: ask an admin"
                  : problemOf("credits")
            }
          />
          <ReasonField value={reason} onChange={setReason} error={problemOf("reason")} placeholder="What was it for? A ticket's number helps." />
          <Text size="sm" aria-live="polite">
            {credits === null || tooMany || overLimit
              ? `${nameOf(user)} has ${formatCredits(user.paid)} paid.`
              : `${nameOf(user)}: ${formatCredits(user.paid)} paid now, ${formatCredits(user.paid + credits)} afterwards. The ledger and the audit log will show it.`}
          </Text>
        </>
      )}
    </ActionDialog>
  );
}
