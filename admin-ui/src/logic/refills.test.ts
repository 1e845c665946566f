import { describe, expect, it } from "vitest";

import { setCurrencies } from "./currencies";
import { EXAMPLES } from "./currencies.examples";
import { cardText, failedState, obstacleOf, spentText } from "./refills";

setCurrencies(EXAMPLES);
const CARD = { card_id: "c", is_primary: true, created_at: "2026-01-01T00:00:00Z" };

describe("refills", () => {
  it.each([
    [{ state: "active", off_reason: null, last_decline: null }, null],
    [{ state: "off", off_reason: "disputed", last_decline: null }, "Switched off: the user disputed a payment"],
    [{ state: "waiting_for_card", off_reason: null, last_decline: null }, "The user has to save a card"],
    [{ state: "backing_off", off_reason: null, last_decline: "insufficient_funds" }, "The last payment was declined: insufficient funds"],
  ] as const)("names the obstacle of %j", (refill, expected) => expect(obstacleOf(refill)).toBe(expected));

  it("shows a card without its number", () => {
    expect(cardText({ ...CARD, brand: "visa", last4: "4242", expiry_month: 8, expiry_year: 2030 })).toBe("Visa ··4242, expires 08/2030");
    expect(cardText({ ...CARD, brand: null, last4: null, expiry_month: null, expiry_year: null })).toBe("Card");
  });

  it("shows the month's refills beside the cap", () => {
    expect(spentText({ spent_this_month_cents: 2500, monthly_cap_cents: 10_000 }, "USD")).toBe("25.00 USD of 100.00 USD");
  });

  it.each([
    ["subscription", "past_due", "Past due"],
    ["refill", "retried", "Will be retried"],
    ["refill", "declined", "Switched off"],
    ["authentication", "action_required", "Waiting for the user"],
  ] as const)("states what happens to a %s that is %s", (kind, state, expected) => expect(failedState({ kind, state })).toBe(expected));
});
