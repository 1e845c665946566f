import type { Alert, AlertRule } from "../../api/models";
import { formatCredits, formatNumber } from "../../logic/format";

export const RULES: Record<Alert["rule"], string> = {
  accounts_per_key: "Many new accounts by one key",
  purchases_per_card: "Many purchases with one card",
  refunds_per_account: "Many refunds of one account",
  spend_spike: "Spending far above its own rate",
};

export const STATUSES: Record<Alert["status"], string> = { open: "Open", acted: "Acted on", dismissed: "Dismissed" };

export const ACTIONS: Record<AlertRule["action"], string> = {
  off: "Off",
  notify: "Notify",
  hold: "Notify and hold",
  suspend: "Notify and suspend",
};

export const STOPPED: Record<NonNullable<Alert["stopped"]>, string> = { hold: "On hold", suspend: "Suspended" };

/** What was seen, in a sentence. */
export function observedOf(alert: Alert): string {
  const many = formatNumber(alert.observed);
  const hours = hoursOf(alert.window_h);
  switch (alert.rule) {
    case "accounts_per_key":
      return `${many} new accounts in ${hours}`;
    case "purchases_per_card":
      return `${many} purchases in ${hours}`;
    case "refunds_per_account":
      return `${many} refunded purchases in ${hours}`;
    case "spend_spike":
      return `${formatCredits(alert.observed)} in a day, usually ${formatNumber(alert.usual ?? 0)}`;
  }
}

/** From when on a rule finds something, in a sentence. */
export function limitOf(rule: Pick<AlertRule, "rule" | "threshold" | "window_h" | "minimum">): string {
  const many = formatNumber(rule.threshold);
  const hours = hoursOf(rule.window_h);
  switch (rule.rule) {
    case "accounts_per_key":
      return `${many} new accounts in ${hours}`;
    case "purchases_per_card":
      return `${many} purchases in ${hours}`;
    case "refunds_per_account":
      return `${many} refunded purchases in ${hours}`;
    case "spend_spike":
      return `${many} times the usual of a day, from ${formatCredits(rule.minimum)} on`;
  }
}

export function hoursOf(hours: number): string {
  if (hours === 1) return "an hour";
  if (hours % 24 === 0) return hours === 24 ? "24 hours" : `${hours / 24} days`;
  return `${hours} hours`;
}
