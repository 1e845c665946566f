import { List, Text, TextInput } from "@mantine/core";
import { useState } from "react";

import { api, bodyOf } from "../../api/client";
import type { User } from "../../api/models";
import { ActionDialog } from "../../components/ActionDialog";
import { reasonProblem, ReasonField } from "../../components/ReasonField";
import { formatCredits } from "../../logic/format";
import { nameOf } from "../../logic/names";

/** Names what goes and what stays, and wants the id typed, because nothing brings a person back. */
export function EraseDialog({ user, onClose }: { user: User; onClose: () => void }) {
  const [confirm, setConfirm] = useState("");
  const [reason, setReason] = useState("");
  const expected = user.external_id ?? user.account_id;
  const lost = user.paid > 0 ? ` ${formatCredits(user.paid)} that were paid for are lost: refund purchases first.` : "";
  return (
    <ActionDialog
      title="Erase the person"
      confirmLabel="Erase for ever"
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
      done={() => "The person is erased. What callers wrote beside charges follows within a minute."}
    >
      {(problemOf) => (
        <>
          <Text size="sm">This cannot be undone, not even by us. Of {nameOf(user)}:</Text>
          <List size="sm" spacing={4}>
            <List.Item>Name, e-mail address, ids, consent and every text beside charges are deleted.</List.Item>
            <List.Item>The account is closed for ever.{lost}</List.Item>
            <List.Item>Amounts, times and the ledger stay: the books name nobody.</List.Item>
            <List.Item>Who signs in again starts as somebody new.</List.Item>
            <List.Item>What Stripe holds about payments is not touched: have it redacted there.</List.Item>
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
            description="Kept in the audit log for ever, so name nobody: a ticket's number is enough."
          />
        </>
      )}
    </ActionDialog>
  );
}
