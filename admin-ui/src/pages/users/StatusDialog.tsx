import { api, bodyOf } from "../../api/client";
import type { User } from "../../api/models";
import { ReasonDialog, type ReasonTexts } from "../../components/ReasonDialog";
import { nameOf } from "../../logic/names";

export type StatusAction = "suspend" | "reopen" | "close" | "revoke-tokens" | "stop-billing" | "resume-billing";

const TEXTS: Record<StatusAction, (name: string) => ReasonTexts> = {
  suspend: (name) => ({
    title: "Suspend account",
    confirm: "Suspend",
    danger: true,
    consequences: `${name} can no longer spend credits, in any product. Credits are kept. You can reopen the account at any time.`,
    hint: "Sent to the agent, which can show it to the user. Recorded in the audit log.",
    done: `${name} is suspended`,
  }),
  reopen: (name) => ({
    title: "Reopen account",
    confirm: "Reopen",
    danger: false,
    consequences: `${name} can spend the current balance again.`,
    done: `${name} is active again`,
  }),
  close: (name) => ({
    title: "Close account",
    confirm: "Close account",
    danger: true,
    consequences: `${name} can neither spend nor receive credits. Closing does not refund money: refund purchases first.`,
    done: `${name}'s account is closed`,
  }),
  "revoke-tokens": (name) => ({
    title: "Revoke tokens",
    confirm: "Revoke tokens",
    danger: true,
    consequences: `All current tokens of ${name} are rejected within a second. The user has to sign in again.`,
    done: `${name}'s tokens are revoked`,
  }),
  "stop-billing": (name) => ({
    title: "Stop billing usage",
    confirm: "Stop billing",
    danger: true,
    consequences: `Usage of ${name} is recorded and priced from now on, and never charged, also after billing resumes. Charges of credits continue.`,
    done: `${name}'s usage is no longer billed`,
  }),
  "resume-billing": (name) => ({
    title: "Resume billing usage",
    confirm: "Resume billing",
    danger: false,
    consequences: `New usage of ${name} is charged again. Usage that was recorded in the meantime stays free.`,
    done: `${name}'s usage is billed again`,
  }),
};

interface Props {
  action: StatusAction;
  user: User;
  onClose: () => void;
}

export function StatusDialog({ action, user, onClose }: Props) {
  return (
    <ReasonDialog texts={TEXTS[action](nameOf(user))} onClose={onClose} act={(reason) => send(action, user, reason)} />
  );
}

/** Send the action. Answers differ by route; callers only need to know that the server accepted it. */
function send(action: StatusAction, user: User, reason: string): Promise<unknown> {
  const path = { account_id: user.account_id };
  const request = { params: { path }, body: { reason, seen_status: user.status } };
  switch (action) {
    case "suspend":
      return bodyOf(api.POST("/admin/users/{account_id}/suspend", request));
    case "reopen":
      return bodyOf(api.POST("/admin/users/{account_id}/reopen", request));
    case "close":
      return bodyOf(api.POST("/admin/users/{account_id}/close", request));
    case "revoke-tokens":
      return bodyOf(api.POST("/admin/users/{account_id}/revoke-tokens", request));
    case "stop-billing":
    case "resume-billing":
      return bodyOf(
        api.POST("/admin/users/{account_id}/billing", {
          params: { path },
          body: { reason, billing_enabled: action === "resume-billing" },
        }),
      );
  }
}
