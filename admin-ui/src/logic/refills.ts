/** Automatic refills and failed payments: labels, and sentences about their state. */
import type { AutoRefill, FailedPayment, Refill, SavedCard } from "../api/models";
import { formatMoney, humanize } from "./format";
import { cardOf } from "./names";

export const REFILL_STATES: Record<AutoRefill["state"], string> = {
  off: "Off",
  waiting_for_card: "Waiting for a card",
  out_of_bounds: "Outside the bounds",
  authentication_required: "Waiting for the user",
  in_flight: "Payment under way",
  backing_off: "Declined, will retry",
  active: "Active",
};

export const REFILL_STATUSES: Record<Refill["status"], string> = {
  in_flight: "Under way",
  action_required: "Waiting for the user",
  paid: "Paid",
  declined: "Declined",
  canceled: "Canceled",
};

const OFF_REASONS: Record<NonNullable<AutoRefill["off_reason"]>, string> = {
  declined: "Switched off: three payments in a row were declined",
  disputed: "Switched off: the user disputed a payment",
  suspended: "Switched off: the account was suspended",
  closed: "Switched off: the account was closed",
};

/** Return why refills were switched off or do not start; null: nothing is in the way. */
export function obstacleOf({ state, off_reason, last_decline }: Pick<AutoRefill, "state" | "off_reason" | "last_decline">): string | null {
  if (off_reason !== null) return OFF_REASONS[off_reason];
  if (state === "waiting_for_card") return "The user has to save a card";
  if (state === "out_of_bounds") return "The operator's bounds have changed: the user has to set other amounts";
  if (state === "authentication_required") return "The user has to authenticate the payment with the bank";
  return last_decline === null ? null : `The last payment was declined: ${declineOf(last_decline)}`;
}

/** "insufficient_funds" → "insufficient funds" */
export function declineOf(code: string): string {
  return humanize(code).toLowerCase();
}

/** Return a card and its expiry: "Visa ··4242, expires 08/2030". */
export function cardText({ brand, last4, expiry_month, expiry_year }: SavedCard): string {
  const card = cardOf({ card_brand: brand, card_last4: last4 }) ?? "Card";
  if (expiry_month === null || expiry_year === null) return card;
  return `${card}, expires ${String(expiry_month).padStart(2, "0")}/${expiry_year}`;
}

/** Return the refills of this month beside their cap: "25.00 USD of 100.00 USD". */
export function spentText({ spent_this_month_cents, monthly_cap_cents }: Pick<AutoRefill, "spent_this_month_cents" | "monthly_cap_cents">, currency: string): string {
  return `${formatMoney(spent_this_month_cents, currency)} of ${formatMoney(monthly_cap_cents, currency)}`;
}

export const FAILED_KINDS: Record<FailedPayment["kind"], string> = {
  subscription: "Subscription",
  refill: "Refill",
  authentication: "Refill to authenticate",
};

/** Return what happens to a failed payment: "Past due", "Switched off after declines". */
export function failedState({ kind, state }: Pick<FailedPayment, "kind" | "state">): string {
  if (kind === "subscription") return humanize(state);
  if (kind === "authentication") return "Waiting for the user";
  return state === "retried" ? "Will be retried" : "Switched off";
}
