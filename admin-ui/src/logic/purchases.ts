import type { Booked, Purchase, PurchaseRow, Reconciled, Reconciliation } from "../api/models";
import { formatCount, humanize, parseMoney } from "./format";
import { workerState } from "./system";

/** Stripe's words for where a payment stands, in ours, and how much of the money went back. */
export const PURCHASE_STATES: Record<PurchaseRow["state"], string> = {
  succeeded: "Succeeded",
  partially_refunded: "Partially refunded",
  refunded: "Refunded",
  processing: "Processing",
  pending: "Pending",
  requires_payment_method: "Not paid",
  requires_confirmation: "Not confirmed",
  requires_action: "Buyer must act",
  requires_capture: "Not captured",
  canceled: "Canceled",
  failed: "Failed",
  unknown: "Unknown",
};

/** Of what arrived and of what goes back: it may be another than was agreed. */
export function currencyOf({ received_currency, currency }: PurchaseRow): string {
  return received_currency ?? currency;
}

/** The payment in Stripe's dashboard, of the environment's mode. */
export function stripeUrl({ payment_id, environment }: Pick<PurchaseRow, "payment_id" | "environment">): string | null {
  if (payment_id === null) return null;
  return `https://dashboard.stripe.com/${environment === "test" ? "test/" : ""}payments/${encodeURIComponent(payment_id)}`;
}

const GAVE_NOTHING_BACK = ["failed", "canceled"];

/** What was refunded beyond the refunds that are known one by one: Stripe reported no more than the total. */
export function unexplainedRefunds({ refunded_minor, refunds }: Pick<Purchase, "refunded_minor" | "refunds">): number {
  const known = refunds.filter(({ status }) => !GAVE_NOTHING_BACK.includes(status));
  return Math.max(0, refunded_minor - known.reduce((sum, { amount_minor }) => sum + amount_minor, 0));
}

/** What somebody typed as an amount to look for: "5", "5.00" or "500 JPY"; null: no amount. */
export function amountFilter(text: string): { amount_minor: number; currency: string | null } | null {
  const [, number = "", code] = /^([\d.,]+)\s*([a-z]{3})?$/i.exec(text.trim()) ?? [];
  const currency = code?.toUpperCase() ?? null;
  const minor = parseMoney(number, currency ?? TWO_DIGITS);
  return minor === null || minor === 0 ? null : { amount_minor: minor, currency };
}

/** Without a currency, an amount has as many digits as most currencies do. */
const TWO_DIGITS = "USD";

/** Money arrived, stayed, and is no credits yet. */
export function isUncredited({ received_minor, credited, status }: PurchaseRow): boolean {
  return received_minor !== null && !credited && status !== "canceled";
}

/** Why money that arrived was not made into credits, and what to do about it. */
export function reviewOf(reason: string): string {
  if (reason === "amount_mismatch") {
    return "Another amount or currency arrived than was agreed, so nothing was credited. Refund it: then it is settled, and the customer can buy anew.";
  }
  if (reason === "balance_limit") {
    return "The account has no room for the credits. Look at its timeline: somebody gave it far too many.";
  }
  if (reason === "account_closed") {
    return "The money arrived after the account was closed, so nothing was credited. The worker refunds it, unless the operator chose otherwise. Refund it yourself, or reopen the account, which books it.";
  }
  if (reason === "refund_refused") {
    return "The money arrived after the account was closed, and Stripe refused to refund it, or the refund failed. Refund it at Stripe or by other means, or reopen the account, which books it.";
  }
  return humanize(reason);
}

/** What asking Stripe about a purchase led to. */
export function outcomeOf({ booked, purchase }: Booked): string {
  if (!booked) return "Stripe knows of nothing that was missing";
  if (purchase.credited) return "Money had arrived: it is booked now";
  if (purchase.status === "canceled") return "The money has gone back: the purchase is settled";
  return "Money has arrived, but not as agreed: nothing was credited";
}

/** What asking Stripe about everything led to. */
export function reconciledOf({ events, payments, failed }: Reconciled): string {
  const done = events + payments === 0 ? "nothing was missing" : `${formatCount(events, "event")} and ${formatCount(payments, "payment")} caught up on`;
  if (failed === 0) return `Stripe was asked: ${done}`;
  const missed = `${failed} could not be done. The worker tries again in a few minutes; its log tells why`;
  return events + payments === 0 ? `Stripe was asked: ${missed}` : `Stripe was asked: ${done}, but ${missed}`;
}

export function isUnderWay(run: Reconciliation | null): boolean {
  return run?.state === "queued" || run?.state === "running";
}

const A_DAY_MS = 86_400_000;

/** Over for so long that nobody waits for it. One that failed still does. */
export function isOld({ state, finished_at, now }: Reconciliation): boolean {
  return state === "finished" && finished_at !== null && Date.parse(now) - Date.parse(finished_at) > A_DAY_MS;
}

interface Standing {
  tone: "good" | "wait" | "warn" | "bad";
  title: string;
  text: string;
}

/** Says that something was done only when it was. */
export function reconciliationStatus({ state, outcome, worker_seen_at, now }: Reconciliation): Standing {
  if (state === "finished" && outcome !== null) {
    return { tone: outcome.failed > 0 ? "warn" : "good", title: "Reconciled", text: reconciledOf(outcome) };
  }
  if (state === "running") return { tone: "wait", title: "Reconciling", text: "Stripe is being asked about everything that is not settled." };
  if (state !== "queued") {
    return { tone: "bad", title: "The reconciliation failed", text: "Not all of Stripe was asked. Retry the job under System, or ask again." };
  }
  const worker = workerState(worker_seen_at, now);
  if (worker.tone === "bad") {
    return { tone: "bad", title: "Nothing has happened yet", text: `${worker.label}. Stripe is asked as soon as it runs again.` };
  }
  return { tone: "wait", title: "Queued", text: "Nothing has happened yet: the worker asks Stripe as soon as it has a moment." };
}
