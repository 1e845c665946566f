import { api, bodyOf } from "../../api/client";
import type { User } from "../../api/models";
import { ReasonDialog, type ReasonWords } from "../../components/ReasonDialog";
import { nameOf } from "../../logic/names";

export type StatusAction = "suspend" | "reopen" | "close" | "revoke-tokens";

const WORDS: Record<StatusAction, (name: string) => ReasonWords> = {
  suspend: (name) => ({
    title: "Suspend the account",
    confirm: "Suspend",
    danger: true,
    what: `${name} can spend nothing from now on, in every product. Credits stay. It can be reopened at any time.`,
    hint: "The agent hears it, and so may the user. Kept in the audit log.",
    done: `${name} is suspended`,
  }),
  reopen: (name) => ({
    title: "Reopen the account",
    confirm: "Reopen",
    danger: false,
    what: `${name} can spend again, from the balance as it stands.`,
    done: `${name} is open again`,
  }),
  close: (name) => ({
    title: "Close the account",
    confirm: "Close the account",
    danger: true,
    what: `${name} will neither spend nor receive credits. Money is not given back by this: refund purchases first.`,
    done: `${name}'s account is closed`,
  }),
  "revoke-tokens": (name) => ({
    title: "Revoke the user's tokens",
    confirm: "Revoke tokens",
    danger: true,
    what: `Every token that ${name} has now is refused within a second. The user signs in again to go on.`,
    done: `${name}'s tokens are revoked`,
  }),
};

interface Props {
  action: StatusAction;
  user: User;
  onClose: () => void;
}

export function StatusDialog({ action, user, onClose }: Props) {
  return (
    <ReasonDialog words={WORDS[action](nameOf(user))} onClose={onClose} act={(reason) => send(action, user, reason)} />
  );
}

function send(action: StatusAction, user: User, reason: string) {
  const request = { params: { path: { account_id: user.account_id } }, body: { reason, seen_status: user.status } };
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
