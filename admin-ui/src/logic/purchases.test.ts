import { expect, it } from "vitest";

import type { PurchaseRow } from "../api/models";
import { currencyOf, isUncredited, outcomeOf, reconciledOf, reviewOf } from "./purchases";

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
