import { expect, it } from "vitest";

import type { PurchaseRow, Reconciliation } from "../api/models";
import { setCurrencies } from "./currencies";
import { EXAMPLES } from "./currencies.examples";
import {
  amountFilter,
  boughtBy,
  currencyOf,
  isOld,
  isUncredited,
  outcomeOf,
  reconciliationSummary,
  reviewAdvice,
  stripeUrl,
  takenByDisputes,
  takenByRefunds,
  titleOf,
  unexplainedRefunds,
  reconciliationStatus,
} from "./purchases";

setCurrencies(EXAMPLES);

const BOOKED: PurchaseRow = {
  account_id: "a",
  buyer: { customer_email: "a@example.com", display_name: null, external_id: "a", erased: false },
  purchase_id: "p",
  environment: "live",
  payment_id: "pi_1",
  pack: "standard",
  credits: 20,
  amount_minor: 500,
  currency: "USD",
  status: "succeeded",
  received_minor: 500,
  received_currency: "USD",
  refunded_minor: 0,
  credits_refunded: 0,
  credits_disputed: 0,
  credited: true,
  review_reason: null,
  state: "succeeded",
  card_brand: "visa",
  card_last4: "4242",
  created_at: "2026-11-21T10:00:00Z",
  updated_at: "2026-11-21T10:00:00Z",
  unit: "credit",
  money: null,
  money_refunded: null,
  money_disputed: null,
  discount_percent: "0",
  session_id: null,
  receipt_url: null,
};
const MONEY: PurchaseRow = {
  ...BOOKED,
  pack: "Money",
  credits: 0,
  unit: "USD",
  money: "25.000000",
  money_refunded: "5.000000",
  money_disputed: "0.000000",
  discount_percent: "10",
};
const MISMATCH: PurchaseRow = {
  ...BOOKED,
  status: "unknown",
  credited: false,
  received_currency: "EUR",
  review_reason: "amount_mismatch",
};

it("names what was bought in its unit", () => {
  expect([titleOf(BOOKED), boughtBy(BOOKED), takenByRefunds(BOOKED)]).toEqual(["Standard pack", "20", "0 credits"]);
  expect([titleOf(MONEY), boughtBy(MONEY)]).toEqual(["25.00 USD", "25.00 USD"]);
  expect([takenByRefunds(MONEY), takenByDisputes(MONEY)]).toEqual(["5.00 USD", "0.00 USD"]);
});

it("reports a booking only when credits were booked", () => {
  expect(outcomeOf({ booked: true, purchase: BOOKED })).toContain("now booked");
  expect(outcomeOf({ booked: true, purchase: MISMATCH })).toContain("no credits were booked");
  expect(outcomeOf({ booked: true, purchase: { ...MISMATCH, status: "canceled" } })).toContain("settled");
  expect(outcomeOf({ booked: false, purchase: BOOKED })).toContain("Nothing was missing");
});

it("counts a full refund as settled", () => {
  expect([BOOKED, MISMATCH, { ...MISMATCH, status: "canceled" as const }].map(isUncredited)).toEqual([false, true, false]);
});

it("uses the received currency, and explains the review", () => {
  expect([BOOKED, MISMATCH].map(currencyOf)).toEqual(["USD", "EUR"]);
  expect(reviewAdvice("amount_mismatch")).toContain("Refund the money");
  expect(reviewAdvice("something_new")).toBe("Something new");
});

it("summarizes a reconciliation, with its failures", () => {
  expect(reconciliationSummary({ events: 0, payments: 0, failed: 0 })).toBe("Compared with Stripe: nothing was missing");
  expect(reconciliationSummary({ events: 1, payments: 2, failed: 0 })).toBe("Compared with Stripe: 1 missing event and 2 missing payments processed");
  expect(reconciliationSummary({ events: 0, payments: 0, failed: 3 })).toMatch(/^Compared with Stripe: 3 failed\./);
  expect(reconciliationSummary({ events: 1, payments: 0, failed: 3 })).toContain("processed, but 3 failed.");
});

it("describes the state of a reconciliation run", () => {
  const queued: Reconciliation = {
    job_id: 7,
    state: "queued",
    asked_at: "2026-11-21T10:00:00Z",
    asked_by: "ada@ciris.ai",
    finished_at: null,
    outcome: null,
    worker_seen_at: "2026-11-21T10:00:01Z",
    now: "2026-11-21T10:00:03Z",
  };
  const finished: Reconciliation = {
    ...queued,
    state: "finished",
    finished_at: "2026-11-21T10:00:03Z",
    outcome: { events: 1, payments: 0, failed: 0 },
  };
  expect(reconciliationStatus(queued)).toMatchObject({ tone: "wait", title: "Queued" });
  expect(reconciliationStatus({ ...queued, worker_seen_at: "2026-11-21T09:00:00Z" })).toMatchObject({
    tone: "bad",
    title: "Waiting for the worker",
    text: "Worker not responding. The reconciliation starts when the worker runs again.",
  });
  expect(reconciliationStatus({ ...queued, state: "running" }).tone).toBe("wait");
  expect(reconciliationStatus({ ...queued, state: "failed" }).title).toContain("failed");
  expect(reconciliationStatus(finished)).toMatchObject({ tone: "good", title: "Reconciled" });
  expect(reconciliationStatus({ ...finished, outcome: { events: 0, payments: 0, failed: 1 } }).tone).toBe("warn");
  const later = "2026-11-23T10:00:00Z";
  expect([finished, { ...finished, now: later }, { ...queued, state: "failed" as const, now: later }].map(isOld)).toEqual([
    false,
    true,
    false,
  ]);
});

it("links to the payment in Stripe's dashboard, in the right mode", () => {
  expect(stripeUrl(BOOKED)).toBe("https://dashboard.stripe.com/payments/pi_1");
  expect(stripeUrl({ ...BOOKED, environment: "test" })).toBe("https://dashboard.stripe.com/test/payments/pi_1");
  expect(stripeUrl({ ...BOOKED, payment_id: null })).toBeNull();
});

it("returns the refunded amount without a known refund", () => {
  const refund = { refund_id: "re_1", amount_minor: 200, status: "succeeded" as const, created_at: "", asked_by: null, reason: null };
  const failed = { ...refund, refund_id: "re_2", status: "failed" as const };
  expect(unexplainedRefunds({ refunded_minor: 200, refunds: [refund, failed] })).toBe(0);
  expect(unexplainedRefunds({ refunded_minor: 300, refunds: [refund] })).toBe(100);
});

it.each([
  ["5", { amount_minor: 500, currency: null }],
  ["5.00 eur", { amount_minor: 500, currency: "EUR" }],
  ["500JPY", { amount_minor: 500, currency: "JPY" }],
  ["5,5", { amount_minor: 550, currency: null }],
  ["five", null],
  ["0", null],
  ["", null],
])("parses the amount %j", (text, expected) => {
  expect(amountFilter(text)).toEqual(expected);
});
