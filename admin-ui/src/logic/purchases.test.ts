import { expect, it } from "vitest";

import type { PurchaseRow, Reconciliation } from "../api/models";
import { currencyOf, isOld, isUncredited, outcomeOf, reconciledOf, reviewOf, whereItStands } from "./purchases";

const BOOKED: PurchaseRow = {
  account_id: "a",
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
  created_at: "2026-11-21T10:00:00Z",
  updated_at: "2026-11-21T10:00:00Z",
};
const MISMATCH: PurchaseRow = {
  ...BOOKED,
  status: "unknown",
  credited: false,
  received_currency: "EUR",
  review_reason: "amount_mismatch",
};

it("says that money is booked only when it is", () => {
  expect(outcomeOf({ booked: true, purchase: BOOKED })).toContain("booked now");
  expect(outcomeOf({ booked: true, purchase: MISMATCH })).toContain("nothing was credited");
  expect(outcomeOf({ booked: true, purchase: { ...MISMATCH, status: "canceled" } })).toContain("settled");
  expect(outcomeOf({ booked: false, purchase: BOOKED })).toContain("nothing that was missing");
});

it("counts what was given back in full as settled", () => {
  expect([BOOKED, MISMATCH, { ...MISMATCH, status: "canceled" as const }].map(isUncredited)).toEqual([false, true, false]);
});

it("tells what arrived in the currency in which it arrived, and why it needs a person", () => {
  expect([BOOKED, MISMATCH].map(currencyOf)).toEqual(["USD", "EUR"]);
  expect(reviewOf("amount_mismatch")).toContain("Refund it");
  expect(reviewOf("something_new")).toBe("Something new");
});

it("tells what asking Stripe about everything led to, and what it could not do", () => {
  expect(reconciledOf({ events: 0, payments: 0, failed: 0 })).toBe("Stripe was asked: nothing was missing");
  expect(reconciledOf({ events: 1, payments: 2, failed: 0 })).toBe("Stripe was asked: 1 event and 2 payments caught up on");
  expect(reconciledOf({ events: 0, payments: 0, failed: 3 })).toMatch(/^Stripe was asked: 3 could not be done\./);
  expect(reconciledOf({ events: 1, payments: 0, failed: 3 })).toContain("caught up on, but 3 could not be done.");
});

it("says that everything was reconciled only when it was, and why nothing happens", () => {
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
  expect(whereItStands(queued)).toMatchObject({ tone: "wait", title: "Queued" });
  expect(whereItStands({ ...queued, worker_seen_at: "2026-11-21T09:00:00Z" })).toMatchObject({
    tone: "bad",
    title: "Nothing has happened yet",
    text: "Worker is silent. Stripe is asked as soon as it runs again.",
  });
  expect(whereItStands({ ...queued, state: "running" }).tone).toBe("wait");
  expect(whereItStands({ ...queued, state: "failed" }).title).toContain("failed");
  expect(whereItStands(finished)).toMatchObject({ tone: "good", title: "Reconciled" });
  expect(whereItStands({ ...finished, outcome: { events: 0, payments: 0, failed: 1 } }).tone).toBe("warn");
  const later = "2026-11-23T10:00:00Z";
  expect([finished, { ...finished, now: later }, { ...queued, state: "failed" as const, now: later }].map(isOld)).toEqual([
    false,
    true,
    false,
  ]);
});
