import type { Alert, AlertRule } from "../../api/models";
import { formatCount, formatCredits, formatNumber } from "../../logic/format";

export const RULES: Record<Alert["rule"], string> = {
  accounts_per_key: "Many new accounts from one API key",
  purchases_per_card: "Many purchases with one card",
  refunds_per_account: "Many refunds for one account",
  spend_spike: "Spending far above the usual rate",
  burn_rate: "Spending above the burn rate",
};

export const STATUSES: Record<Alert["status"], string> = { open: "Open", acted: "Acted on", dismissed: "Dismissed" };

export const ACTIONS: Record<AlertRule["action"], string> = {
  off: "Off",
  notify: "Notify",
  hold: "Notify and hold",
  suspend: "Notify and suspend",
};

export const STOPPED: Record<NonNullable<Alert["stopped"]>, string> = { hold: "On hold", suspend: "Suspended" };

/** Describe an alert's finding. */
export function observedOf(alert: Alert): string {
  if (alert.rule === "burn_rate") return `${formatNumber(alert.observed)} in a minute, allowed ${formatNumber(alert.threshold)}`;
  if (alert.rule !== "spend_spike") return countOf(alert.rule, alert.observed, alert.window_h);
  return `${formatCredits(alert.observed)} in a day, usually ${formatNumber(alert.usual ?? 0)}`;
}

/** Describe a rule's threshold. */
export function limitOf(rule: Pick<AlertRule, "threshold" | "window_h" | "minimum"> & Pick<Alert, "rule">): string {
  if (rule.rule === "burn_rate") return `${formatNumber(rule.threshold)} in a minute`;
  if (rule.rule !== "spend_spike") return countOf(rule.rule, rule.threshold, rule.window_h);
  return `${formatNumber(rule.threshold)} times the usual daily spending, from ${formatCredits(rule.minimum)}`;
}

const COUNTED: Record<Exclude<AlertRule["rule"], "spend_spike">, string> = {
  accounts_per_key: "new account",
  purchases_per_card: "purchase",
  refunds_per_account: "refunded purchase",
};

function countOf(rule: keyof typeof COUNTED, count: number, hours: number): string {
  return `${formatCount(count, COUNTED[rule])} in ${hoursOf(hours)}`;
}

export function hoursOf(hours: number): string {
  if (hours === 1) return "an hour";
  if (hours % 24 === 0) return hours === 24 ? "24 hours" : `${hours / 24} days`;
  return `${hours} hours`;
}
