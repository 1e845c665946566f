import { List, Text, TextInput } from "@mantine/core";
import { useState } from "react";

import { api, bodyOf } from "../../api/client";
import type { User } from "../../api/models";
import { ActionDialog } from "../../components/ActionDialog";
import { reasonProblem, ReasonField } from "../../components/ReasonField";
import { formatCount } from "../../logic/format";
import { nameOf } from "../../logic/names";

/** Lists the deleted and the kept data, and requires the typed id, because an erasure is irreversible. */
export function EraseDialog({ user, onClose }: { user: User; onClose: () => void }) {
  const [confirm, setConfirm] = useState("");
  const [reason, setReason] = useState("");
  const expected = user.external_id ?? user.account_id;
  const lost = user.paid > 0 ? ` ${formatCount(user.paid, "paid credit")} will be lost: refund purchases first.` : "";
  return (
    <ActionDialog
      title="Erase person"
      confirmLabel="Erase permanently"
      danger
      blocked={confirm.trim() === expected ? reasonProblem(reason) : `Type ${expected} to confirm`}
      onClose={onClose}
      act={() =>
        bodyOf(
          api.POST("/admin/users/{account_id}/erase", {
            params: { path: { account_id: user.account_id } },
            body: { confirm: confirm.trim(), reason: reason.trim() },
          }),
        )
      }
      done={() => "Person erased. Texts that callers stored with charges are deleted within a minute."}
    >
      {(problemOf) => (
        <>
          <Text size="sm">This cannot be undone, not even by the operator. For {nameOf(user)}:</Text>
          <List size="sm" spacing={4}>
            <List.Item>Name, e-mail address, ids, consent and all texts stored with charges are deleted.</List.Item>
            <List.Item>The account is closed permanently.{lost}</List.Item>
            <List.Item>Amounts, times and ledger entries are kept without personal data.</List.Item>
            <List.Item>If the person signs in again, a new account is created.</List.Item>
            <List.Item>Payment data at Stripe is not changed: redact it in Stripe.</List.Item>
          </List>
          <TextInput
            label={`Type ${expected} to confirm`}
            required
            data-autofocus
            autoComplete="off"
            value={confirm}
            error={problemOf("confirm")}
            onChange={({ currentTarget }) => setConfirm(currentTarget.value)}
            styles={{ label: { overflowWrap: "anywhere" } }}
          />
          <ReasonField
            value={reason}
            onChange={setReason}
            error={problemOf("reason")}
            description="Kept permanently in the audit log: enter a ticket number and no personal data."
          />
        </>
      )}
    </ActionDialog>
  );
}
