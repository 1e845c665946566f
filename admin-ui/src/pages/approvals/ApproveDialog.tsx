import { Text, TextInput } from "@mantine/core";
import { useState } from "react";

import { api, bodyOf } from "../../api/client";
import type { QueuedApproval } from "../../api/models";
import { ActionDialog } from "../../components/ActionDialog";
import { NumberField } from "../../components/NumberField";
import { reasonProblem, ReasonField } from "../../components/ReasonField";
import { limitAmount, refusedBy, requesterOf } from "../../logic/approvals";
import { readWhole } from "../../logic/numbers";

const CONSEQUENCES: Record<QueuedApproval["kind"], string> = {
  limit: "Lets this request through, once.",
  resume: "Lets the run go on.",
  budget: "Raises the run's budget by the amount.",
};
const MINUTES = { least: 1, most: 1440 };

export function ApproveDialog({ approval, onClose }: { approval: QueuedApproval; onClose: () => void }) {
  const [amount, setAmount] = useState(approval.amount);
  const [minutes, setMinutes] = useState("15");
  const [reason, setReason] = useState("");
  const valid = readWhole(minutes, MINUTES);
  const blocked = amount.trim() === "" ? "Enter an amount" : valid.problem ?? reasonProblem(reason);
  const { unit } = approval;
  return (
    <ActionDialog
      title="Approve request"
      confirmLabel="Approve"
      blocked={blocked}
      onClose={onClose}
      act={() =>
        bodyOf(
          api.POST("/admin/approvals/{approval_id}/approve", {
            params: { path: { approval_id: approval.approval_id } },
            body: { amount: amount.trim(), valid_for_s: (valid.value ?? 0) * 60, reason: reason.trim() },
          }),
        )
      }
      done={({ allowed }) => `Approved: up to ${limitAmount(allowed ?? approval.amount, unit)}`}
    >
      {(problemOf) => (
        <>
          <Text size="sm" style={{ overflowWrap: "anywhere" }}>
            {CONSEQUENCES[approval.kind]} Refused by the {refusedBy(approval)}, asked by {requesterOf(approval)}. Spends the user&apos;s own
            balance.
          </Text>
          <TextInput
            label={approval.kind === "budget" ? `Raise (${unit})` : `Most that the request may need (${unit})`}
            required
            inputMode="decimal"
            autoComplete="off"
            value={amount}
            error={problemOf("amount")}
            onChange={({ currentTarget }) => setAmount(currentTarget.value)}
          />
          <NumberField
            label="Minutes that the approval is valid"
            {...MINUTES}
            value={minutes}
            onChange={setMinutes}
            error={problemOf("valid_for_s")}
          />
          <ReasonField value={reason} onChange={setReason} error={problemOf("reason")} />
        </>
      )}
    </ActionDialog>
  );
}
