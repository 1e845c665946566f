import { api, bodyOf } from "../../api/client";
import type { Alert } from "../../api/models";
import { ReasonDialog, type ReasonTexts } from "../../components/ReasonDialog";

export type Decision = "dismiss" | "hold" | "suspend" | "reopen";

const TEXTS: Record<Decision, ReasonTexts> = {
  dismiss: {
    title: "Dismiss alert",
    confirm: "Dismiss",
    danger: false,
    consequences: "Marks the alert as a false alarm. Accounts stopped by this alert can spend again; accounts stopped for another reason stay stopped.",
    done: "Alert dismissed",
  },
  hold: {
    title: "Hold accounts",
    confirm: "Hold",
    danger: true,
    consequences: "The accounts can neither spend nor buy until an admin decides. Agents receive an error that the account is on hold. Accounts found later are held, too. Dismiss the alert to release them.",
    done: "Accounts put on hold",
  },
  suspend: {
    title: "Suspend accounts",
    confirm: "Suspend",
    danger: true,
    consequences: "The accounts can neither spend nor buy. Their credits are kept. Accounts found later are suspended, too. Reopen the alert to release them.",
    done: "Accounts suspended",
  },
  reopen: {
    title: "Reopen alert",
    confirm: "Reopen",
    danger: false,
    consequences: "The alert needs a new decision. Accounts stopped by this alert can spend again.",
    done: "Alert reopened",
  },
};

export function DecisionDialog({ decision, alert, onClose }: { decision: Decision; alert: Alert; onClose: () => void }) {
  return <ReasonDialog texts={TEXTS[decision]} onClose={onClose} act={(reason) => send(decision, alert, reason)} />;
}

function send(decision: Decision, alert: Alert, reason: string) {
  const seen = { seen_status: alert.status, seen_stopped: alert.stopped };
  const request = { params: { path: { alert_id: alert.alert_id } }, body: { reason, ...seen } };
  switch (decision) {
    case "dismiss":
      return bodyOf(api.POST("/admin/alerts/{alert_id}/dismiss", request));
    case "hold":
      return bodyOf(api.POST("/admin/alerts/{alert_id}/hold", request));
    case "suspend":
      return bodyOf(api.POST("/admin/alerts/{alert_id}/suspend", request));
    case "reopen":
      return bodyOf(api.POST("/admin/alerts/{alert_id}/reopen", request));
  }
}
