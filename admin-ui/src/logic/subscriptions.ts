import type { PeriodGrant, Subscription, SubscriptionEvent, SubscriptionInvoice } from "../api/models";
import { isZero } from "./decimals";
import { formatMoney, humanize } from "./format";
import { grantAmount } from "./grants";

/** Labels of Stripe's statuses of subscriptions. */
export const SUBSCRIPTION_STATUSES: Record<Subscription["status"], string> = {
  active: "Active",
  trialing: "Trial",
  past_due: "Past due",
  unpaid: "Unpaid",
  paused: "Paused",
  incomplete: "First payment open",
  incomplete_expired: "Never paid",
  canceled: "Ended",
};

type Plan = Pick<Subscription, "plan_name" | "plan_title" | "plan_interval">;

/** Return the plan of a subscription: "Standard, monthly". */
export function planOf({ plan_name, plan_title, plan_interval }: Plan): string {
  if (plan_name === null) return "Unknown plan";
  const title = plan_title ?? humanize(plan_name);
  return plan_interval === null ? title : `${title}, ${plan_interval === "year" ? "yearly" : "monthly"}`;
}

/** Return the price per interval: "20.00 USD a month"; null: unknown. */
export function priceOf({ price_minor, currency, plan_interval }: Pick<Subscription, "price_minor" | "currency" | "plan_interval">): string | null {
  if (price_minor === null || currency === null) return null;
  return `${formatMoney(price_minor, currency)} a ${plan_interval ?? "period"}`;
}

/** Return what happens next to a payment: "20.00 USD", with "retry" for another attempt. */
export function paymentText({ amount_minor, currency, is_retry }: NonNullable<Subscription["next_payment"]>): string {
  const amount = amount_minor === null || currency === null ? "Amount unknown" : formatMoney(amount_minor, currency);
  return is_retry ? `${amount}, retry` : amount;
}

/** Return the recurrence of a grant's kind: "USD:month" is "each month". */
export function kindOf(kind: string): string {
  const [, cadence = "", change] = /^[^:]+:(\w+)(.*)$/.exec(kind) ?? [];
  const recurrence = { once: "once", day: "each day", month: "each month" }[cadence] ?? humanize(kind);
  return change === undefined || change === "" ? recurrence : `${recurrence}, for a change of plan`;
}

/** Return how much of a grant was taken back: "25.00 USD"; null: nothing. */
export function takenBack({ taken_back, unit }: Pick<PeriodGrant, "taken_back" | "unit">): string | null {
  return isZero(taken_back) ? null : grantAmount(taken_back, unit);
}

/** Describe what an event did: "Applied, gave 25.00 USD". */
export function effectOf({ outcome, given }: Pick<SubscriptionEvent, "outcome" | "given">): string {
  const amounts = given.map(({ amount, unit }) => grantAmount(amount, unit));
  return amounts.length === 0 ? humanize(outcome) : `${humanize(outcome)}, gave ${amounts.join(" and ")}`;
}

/** Return the money that an invoice's refunds and disputes took: "5.00 USD refunded"; null: none. */
export function moneyBack({ refunded_minor, withdrawn_minor, currency }: Pick<SubscriptionInvoice, "refunded_minor" | "withdrawn_minor" | "currency">): string | null {
  const parts = [
    refunded_minor > 0 && `${formatMoney(refunded_minor, currency)} refunded`,
    withdrawn_minor > 0 && `${formatMoney(withdrawn_minor, currency)} disputed`,
  ].filter((part) => part !== false);
  return parts.length === 0 ? null : parts.join(", ");
}

/** Return the URL of an object in Stripe's dashboard, in live or test mode. */
export function dashboardUrl(kind: "subscriptions" | "invoices" | "customers", id: string, environment: Subscription["environment"]): string {
  return `https://dashboard.stripe.com/${environment === "test" ? "test/" : ""}${kind}/${encodeURIComponent(id)}`;
}
