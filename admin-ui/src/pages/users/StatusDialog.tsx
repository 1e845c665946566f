import { Text } from "@mantine/core";
import { useState } from "react";

import { api, bodyOf } from "../../api/client";
import type { User } from "../../api/models";
import { ActionDialog } from "../../components/ActionDialog";
import { isReason, ReasonField } from "../../components/ReasonField";
import { nameOf } from "../../logic/names";

export type StatusAction = "suspend" | "reopen" | "close" | "revoke-tokens";

interface Words {
  title: string;
  confirm: string;
  danger: boolean;
  what: (name: string) => string;
  hint?: string;
  done: (name: string) => string;
}

const WORDS: Record<StatusAction, Words> = {
  suspend: {
    title: "Suspend the account",
    confirm: "Suspend",
    danger: true,
    what: (name) => `${name} can spend nothing from now on, in every product. Credits stay. It can be reopened at any time.`,
    hint: "The agent hears it, and so may the user. Kept in the audit log.",
    done: (name) => `${name} is suspended`,
  },
  reopen: {
    title: "Reopen the account",
    confirm: "Reopen",
    danger: false,
    what: (name) => `${name} can spend again, from the balance as it stands.`,
    done: (name) => `${name} is open again`,
  },
  close: {
    title: "Close the account",
    confirm: "Close the account",
    danger: true,
    what: (name) => `${name} will neither spend nor receive credits. Money is not given back by this: refund purchases first.`,
    done: (name) => `${name}'s account is closed`,
  },
  "revoke-tokens": {
    title: "Revoke the user's tokens",
    confirm: "Revoke tokens",
    danger: true,
    what: (name) => `Every token that ${name} has now is refused within a second. The user signs in again to go on.`,
    done: (name) => `${name}'s tokens are revoked`,
  },
};

interface Props {
  action: StatusAction;
  user: User;
  onClose: () => void;
}

export function StatusDialog({ action, user, onClose }: Props) {
  const [reason, setReason] = useState("");
  const words = WORDS[action];
  const name = nameOf(user);
  return (
    <ActionDialog
      title={words.title}
      confirmLabel={words.confirm}
      danger={words.danger}
      disabled={!isReason(reason)}
      onClose={onClose}
      act={() => send(action, user.account_id, reason.trim())}
      done={() => words.done(name)}
    >
      <Text size="sm">{words.what(name)}</Text>
      <ReasonField value={reason} onChange={setReason} description={words.hint} />
    </ActionDialog>
  );
}

function send(action: StatusAction, accountId: string, reason: string) {
  const request = { params: { path: { account_id: accountId } }, body: { reason } };
  switch (action) {
    case "suspend":
      return bodyOf(api.POST("/admin/users/{account_id}/suspend", request));
    case "reopen":
      return bodyOf(api.POST("/admin/users/{account_id}/reopen", request));
    case "close":
      return bodyOf(api.POST("/admin/users/{account_id}/close", request));
    case "revoke-tokens":
      return bodyOf(api.POST("/admin/users/{account_id}/revoke-tokens", request));
  }
}
