import { api, bodyOf } from "../../api/client";
import type { Alert } from "../../api/models";
import { ReasonDialog, type ReasonWords } from "../../components/ReasonDialog";

export type Decision = "dismiss" | "hold" | "suspend" | "reopen";

const WORDS: Record<Decision, ReasonWords> = {
  dismiss: {
    title: "Dismiss the alert",
    confirm: "Dismiss",
    danger: false,
    what: "It was nothing. Accounts that this alert stopped can spend again; those that somebody else stopped stay so.",
    done: "The alert is dismissed",
  },
  hold: {
    title: "Hold its accounts",
    confirm: "Hold",
    danger: true,
    what: "They can neither spend nor buy until somebody has looked at them. Agents hear that they are on hold. Accounts that are found later are held too. Dismissing the alert lets them go on.",
    done: "The accounts are on hold",
  },
  suspend: {
    title: "Suspend its accounts",
    confirm: "Suspend",
    danger: true,
    what: "They can neither spend nor buy from now on. Credits stay. Accounts that are found later are suspended too. Reopening the alert lets them go on.",
    done: "The accounts are suspended",
  },
  reopen: {
    title: "Reopen the alert",
    confirm: "Reopen",
    danger: false,
    what: "It waits for a decision again. Accounts that this alert stopped can spend again.",
    done: "The alert is open again",
  },
};

export function DecisionDialog({ decision, alert, onClose }: { decision: Decision; alert: Alert; onClose: () => void }) {
  return <ReasonDialog words={WORDS[decision]} onClose={onClose} act={(reason) => send(decision, alert, reason)} />;
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
