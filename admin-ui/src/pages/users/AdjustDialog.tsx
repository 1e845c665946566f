import { SegmentedControl, Text } from "@mantine/core";
import { useState } from "react";

import { api, bodyOf } from "../../api/client";
import type { User } from "../../api/models";
import { useMe } from "../../api/session";
import { ActionDialog } from "../../components/ActionDialog";
import { NumberField } from "../../components/NumberField";
import { reasonProblem, ReasonField } from "../../components/ReasonField";
import { useIdempotencyKey } from "../../components/useIdempotencyKey";
import { formatCredits } from "../../logic/format";
import { nameOf } from "../../logic/names";
import { readWhole, UNUSUAL, type Bounds } from "../../logic/numbers";

const CREDITS: Bounds = { least: 1, most: 1_000_000_000_000 };

export function AdjustDialog({ user, onClose }: { user: User; onClose: () => void }) {
  const [direction, setDirection] = useState("give");
  const [amount, setAmount] = useState("");
  const [reason, setReason] = useState("");
  const [key, onFailed] = useIdempotencyKey();
  const { value: size, problem } = readWhole(amount, CREDITS);
  const credits = size === null ? null : direction === "give" ? size : -size;
  const limit = useMe().credit_limit;
  const tooMany = credits !== null && user.paid + credits < 0;
  const overLimit = limit !== null && size !== null && size > limit;
  const beyond = tooMany
    ? `Only ${formatCredits(user.paid)} are there: nothing becomes debt`
    : overLimit
      ? "More than your role may move at once: ask an admin"
      : null;
  return (
    <ActionDialog
      title="Adjust credits"
      confirmLabel={credits === null ? "Adjust" : `${direction === "give" ? "Give" : "Take"} ${formatCredits(Math.abs(credits))}`}
      danger={direction === "take"}
      blocked={(problem === null ? beyond : `Credits: ${problem.toLowerCase()}`) ?? reasonProblem(reason)}
      unusual={size !== null && size > UNUSUAL.adjustedCredits ? formatCredits(size) : null}
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
          <NumberField
            {...CREDITS}
            label="Credits"
            data-autofocus
            value={amount}
            onChange={setAmount}
            description={limit === null ? undefined : `Your role may move ${formatCredits(limit)} at once`}
            error={beyond ?? problemOf("credits")}
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
