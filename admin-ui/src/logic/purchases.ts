import type { Booked, Purchase, PurchaseRow, Reconciled, Reconciliation } from "../api/models";
import { formatAmount } from "./decimals";
import { formatCount, formatCredits, formatNumber, humanize, parseMoney } from "./format";
import { workerState } from "./system";

/** Labels of purchase states: Stripe's payment status, and whether money was refunded. */
export const PURCHASE_STATES: Record<PurchaseRow["state"], string> = {
  succeeded: "Succeeded",
  partially_refunded: "Partially refunded",
  refunded: "Refunded",
  processing: "Processing",
  pending: "Pending",
  requires_payment_method: "Not paid",
  requires_confirmation: "Not confirmed",
  requires_action: "Action required",
  requires_capture: "Not captured",
  canceled: "Canceled",
  failed: "Failed",
  unknown: "Unknown",
};

/** The currency of the received money and of refunds. It can differ from the currency of the price. */
export function currencyOf({ received_currency, currency }: PurchaseRow): string {
  return received_currency ?? currency;
}

/** Return what was bought: "Standard pack", or "25.00 USD". */
export function titleOf({ pack, money, unit }: Pick<PurchaseRow, "pack" | "money" | "unit">): string {
  return money === null ? `${humanize(pack)} pack` : formatAmount(money, unit);
}

/** Return the amount that the account receives: credits as a number, money with its currency. */
export function boughtBy({ credits, money, unit }: Pick<PurchaseRow, "credits" | "money" | "unit">): string {
  return money === null ? formatNumber(credits) : formatAmount(money, unit);
}

type TakenBack = Pick<
  PurchaseRow,
  "unit" | "credits_refunded" | "credits_disputed" | "money_refunded" | "money_disputed"
>;

/** Return what refunds have taken back: "5 credits", or "5.00 USD". */
export function takenByRefunds({ unit, credits_refunded, money_refunded }: TakenBack): string {
  return money_refunded === null ? formatCredits(credits_refunded) : formatAmount(money_refunded, unit);
}

/** Return what disputes have taken back: "5 credits", or "5.00 USD". */
export function takenByDisputes({ unit, credits_disputed, money_disputed }: TakenBack): string {
  return money_disputed === null ? formatCredits(credits_disputed) : formatAmount(money_disputed, unit);
}

/** Return the payment's URL in Stripe's dashboard, in live or test mode; null: there is no payment yet. */
export function stripeUrl({ payment_id, environment }: Pick<PurchaseRow, "payment_id" | "environment">): string | null {
  if (payment_id === null) return null;
  return `https://dashboard.stripe.com/${environment === "test" ? "test/" : ""}payments/${encodeURIComponent(payment_id)}`;
}

const NOT_REFUNDED = ["failed", "canceled"];

/** Return the refunded amount for which no single refund is known: Stripe reported only the total. */
export function unexplainedRefunds({ refunded_minor, refunds }: Pick<Purchase, "refunded_minor" | "refunds">): number {
  const known = refunds.filter(({ status }) => !NOT_REFUNDED.includes(status));
  return Math.max(0, refunded_minor - known.reduce((sum, { amount_minor }) => sum + amount_minor, 0));
}

/** Parse an amount to search for: "5", "5.00" or "500 JPY"; null: not an amount. */
export function amountFilter(text: string): { amount_minor: number; currency: string | null } | null {
  const [, number = "", code] = /^([\d.,]+)\s*([a-z]{3})?$/i.exec(text.trim()) ?? [];
  const currency = code?.toUpperCase() ?? null;
  const minor = parseMoney(number, currency ?? TWO_DIGITS);
  return minor === null || minor === 0 ? null : { amount_minor: minor, currency };
}

/** Without a currency, an amount has two decimal digits, as most currencies do. */
const TWO_DIGITS = "USD";

/** Whether money was received and kept, but no credits were booked. */
export function isUncredited({ received_minor, credited, status }: PurchaseRow): boolean {
  return received_minor !== null && !credited && status !== "canceled";
}

/** Return why received money was not credited, and what to do. */
export function reviewAdvice(reason: string): string {
  if (reason === "amount_mismatch") {
    return "The received amount or currency differs from the price, so no credits were booked. Refund the money to settle the purchase; the customer can then buy again.";
  }
  if (reason === "balance_limit") {
    return "The credits would exceed the account's maximum balance. Check the account's timeline for an excessive credit.";
  }
  if (reason === "account_closed") {
    return "The money arrived after the account was closed, so no credits were booked. The worker refunds it unless CLOSED_ACCOUNT_PAYMENTS is set to review. Refund it yourself, or reopen the account to book the credits.";
  }
  if (reason === "refund_refused") {
    return "The money arrived after the account was closed, and Stripe rejected the refund or the refund failed. Refund it in Stripe or by other means, or reopen the account to book the credits.";
  }
  return humanize(reason);
}

/** Describe the result of reconciling one purchase. */
export function outcomeOf({ booked, purchase }: Booked): string {
  if (!booked) return "Nothing was missing: the purchase matches Stripe";
  if (purchase.credited) return "The payment was received and is now booked";
  if (purchase.status === "canceled") return "The money was refunded: the purchase is settled";
  return "The received amount differs from the price: no credits were booked";
}

/** Describe the result of reconciling all purchases. */
export function reconciliationSummary({ events, payments, failed }: Reconciled): string {
  const done = events + payments === 0 ? "nothing was missing" : `${formatCount(events, "missing event")} and ${formatCount(payments, "missing payment")} processed`;
  if (failed === 0) return `Compared with Stripe: ${done}`;
  const missed = `${failed} failed. The worker retries in a few minutes; see its log for the reason`;
  return events + payments === 0 ? `Compared with Stripe: ${missed}` : `Compared with Stripe: ${done}, but ${missed}`;
}

export function isPending(run: Reconciliation | null): boolean {
  return run?.state === "queued" || run?.state === "running";
}

const A_DAY_MS = 86_400_000;

/** Whether the run finished more than a day ago. A failed run stays visible. */
export function isOld({ state, finished_at, now }: Reconciliation): boolean {
  return state === "finished" && finished_at !== null && Date.parse(now) - Date.parse(finished_at) > A_DAY_MS;
}

interface Status {
  tone: "good" | "wait" | "warn" | "bad";
  title: string;
  text: string;
}

/** Describe the state of a reconciliation run. */
export function reconciliationStatus({ state, outcome, worker_seen_at, now }: Reconciliation): Status {
  if (state === "finished" && outcome !== null) {
    return { tone: outcome.failed > 0 ? "warn" : "good", title: "Reconciled", text: reconciliationSummary(outcome) };
  }
  if (state === "running") return { tone: "wait", title: "Reconciling", text: "Comparing all unsettled purchases with Stripe." };
  if (state !== "queued") {
    return { tone: "bad", title: "Reconciliation failed", text: "Some purchases were not compared with Stripe. Retry the job on the System page, or start a new reconciliation." };
  }
  const worker = workerState(worker_seen_at, now);
  if (worker.tone === "bad") {
    return { tone: "bad", title: "Waiting for the worker", text: `${worker.label}. The reconciliation starts when the worker runs again.` };
  }
  return { tone: "wait", title: "Queued", text: "The reconciliation starts when the worker is free." };
}
