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

const DIRECTIONS: Record<Direction, string> = { give: "Give paid", grant: "Give free", take: "Take paid" };

export function AdjustDialog({ user, onClose }: { user: User; onClose: () => void }) {
  const [direction, setDirection] = useState<Direction>("give");
  const [amount, setAmount] = useState("");
  const [reason, setReason] = useState("");
  const [key, onFailed] = useIdempotencyKey();
  const limit = useMe().credit_limit;
  const { credits, beyond, unusual, confirm, sentence } = adjustmentOf(direction, amount, user, nameOf(user), limit);
  const { problem } = readWhole(amount, CREDITS[direction]);
  return (
    <ActionDialog
      title="Adjust credits"
      confirmLabel={confirm}
      danger={direction === "take"}
      blocked={(problem === null ? beyond : `Credits: ${problem.toLowerCase()}`) ?? reasonProblem(reason)}
      unusual={unusual}
      onClose={onClose}
      onFailed={onFailed}
      act={() => send(direction, user, { credits: credits ?? 0, reason: reason.trim(), idempotency_key: key })}
      done={({ replayed, left }) =>
        replayed ? `This was booked before; it left ${left}` : `Done: ${nameOf(user)} now has ${left}`
      }
    >
      {(problemOf) => (
        <>
          <SegmentedControl
            fullWidth
            aria-label="What to do"
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
            description={limit === null ? undefined : `Your role may move ${formatCredits(limit)} at once`}
            error={beyond ?? problemOf("credits")}
          />
          <ReasonField value={reason} onChange={setReason} error={problemOf("reason")} placeholder="What was it for? A ticket's number helps." />
          <Text size="sm" aria-live="polite">
            {sentence}
          </Text>
        </>
      )}
    </ActionDialog>
  );
}

/** What is left of the pool afterwards, in words. */
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
