import { SegmentedControl, Text } from "@mantine/core";
import { useState } from "react";

import { api, bodyOf } from "../../api/client";
import type { User } from "../../api/models";
import { useMe } from "../../api/session";
import { ActionDialog } from "../../components/ActionDialog";
import { NumberField } from "../../components/NumberField";
import { reasonProblem, ReasonField } from "../../components/ReasonField";
import { useIdempotencyKey } from "../../components/useIdempotencyKey";
import { adjustmentOf, CREDITS, type Direction } from "../../logic/adjustment";
import { keysOf, oneOf } from "../../logic/filters";
import { formatCount, formatCredits } from "../../logic/format";
import { nameOf } from "../../logic/names";
import { readWhole } from "../../logic/numbers";

const DIRECTIONS: Record<Direction, string> = { add: "Add paid", grant: "Grant free", deduct: "Deduct paid" };

export function AdjustDialog({ user, onClose }: { user: User; onClose: () => void }) {
  const [direction, setDirection] = useState<Direction>("add");
  const [amount, setAmount] = useState("");
  const [reason, setReason] = useState("");
  const [key, onFailed] = useIdempotencyKey();
  const limit = useMe().credit_limit;
  const { credits, problem, unusual, confirm, sentence } = adjustmentOf(direction, amount, user, nameOf(user), limit);
  const { problem: typing } = readWhole(amount, CREDITS[direction]);
  return (
    <ActionDialog
      title="Adjust credits"
      confirmLabel={confirm}
      danger={direction === "deduct"}
      blocked={(typing === null ? problem : `Credits: ${typing.toLowerCase()}`) ?? reasonProblem(reason)}
      unusual={unusual}
      onClose={onClose}
      onFailed={onFailed}
      act={() => send(direction, user, { credits: credits ?? 0, reason: reason.trim(), idempotency_key: key })}
      done={({ replayed, left }) =>
        replayed ? `Already booked before: the balance afterwards was ${left}` : `${nameOf(user)} now has ${left}`
      }
    >
      {(problemOf) => (
        <>
          <SegmentedControl
            fullWidth
            aria-label="Kind of adjustment"
            value={direction}
            onChange={(chosen) => setDirection(oneOf(chosen, keysOf(DIRECTIONS)) ?? direction)}
            data={keysOf(DIRECTIONS).map((value) => ({ value, label: DIRECTIONS[value] }))}
          />
          <NumberField
            {...CREDITS[direction]}
            label="Credits"
            data-autofocus
            value={amount}
            onChange={setAmount}
            description={limit === null ? undefined : `Your role can adjust up to ${formatCredits(limit)} at once`}
            error={problem ?? problemOf("credits")}
          />
          <ReasonField value={reason} onChange={setReason} error={problemOf("reason")} placeholder="Reason or ticket number" />
          <Text size="sm" aria-live="polite">
            {sentence}
          </Text>
        </>
      )}
    </ActionDialog>
  );
}

/** Send the adjustment, and return the pool's balance afterwards as text. */
async function send(
  direction: Direction,
  user: User,
  body: { credits: number; reason: string; idempotency_key: string },
): Promise<{ replayed: boolean; left: string }> {
  const params = { path: { account_id: user.account_id } };
  if (direction === "grant") {
    const { replayed, free_after } = await bodyOf(api.POST("/admin/users/{account_id}/free-credits", { params, body }));
    return { replayed, left: formatCount(free_after, "free credit") };
  }
  const seen = { ...body, seen_paid: user.paid };
  const { replayed, paid_after } = await bodyOf(api.POST("/admin/users/{account_id}/credits", { params, body: seen }));
  return { replayed, left: formatCount(paid_after, "paid credit") };
}
