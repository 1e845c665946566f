import { describe, expect, it } from "vitest";

import { factsOf } from "./configuration";
import { setCurrencies } from "./currencies";
import { EXAMPLES } from "./currencies.examples";
import { oneTimeDraft, parseOneTime } from "./oneTimeGrants";

setCurrencies(EXAMPLES);

const OFF = { amount: "0", expires_after_days: null };
const DOCUMENT = {
  currency: "USD",
  signup: { amount: "5.00", expires_after_days: 30 },
  daily: { amount: "0.50", expires_after_days: null },
  referral_inviter: OFF,
  referral_invitee: OFF,
};

describe("one-time grants", () => {
  it("round-trip through the form", () => {
    expect(parseOneTime(oneTimeDraft(DOCUMENT))).toEqual({ document: DOCUMENT, errors: null });
  });

  it("have errors by field", () => {
    const draft = { ...oneTimeDraft(DOCUMENT), currency: "US", signup: { amount: "-1", days: "0" } };
    expect(Object.keys(parseOneTime(draft).errors ?? {})).toEqual(["currency", "signup.amount", "signup.days"]);
  });

  it("become facts for comparison", () => {
    expect(factsOf(DOCUMENT)).toEqual({
      currency: "USD",
      signup: "5.00 USD, for 30 days",
      daily: "0.50 USD, without expiry",
      referral_inviter: "off",
      referral_invitee: "off",
    });
  });
});
