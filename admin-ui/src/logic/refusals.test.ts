import { describe, expect, it } from "vitest";

import { firstChargeOf, remediesOf } from "./refusals";

describe("remedies of a refusal", () => {
  it("puts each remedy into words, in their order", () => {
    const remedies = [
      { type: "smaller_amount", amount_minor: 200, amount: null, currency: null },
      { type: "smaller_amount", amount_minor: null, amount: "0.5", currency: "USD" },
      { type: "cheaper_model", provider: "openai", model: "mini", cost: "0.000400", currency: "USD", price_version: 1 },
      { type: "request_approval", approval_id: "a", until: "2026-11-30T00:00:00Z" },
      { type: "purchase", pack: "small", count: 2, credits: 20, price_minor: 500, currency: "USD" },
    ];
    expect(remediesOf({ figures: { remedies } })).toEqual([
      "Spend at most 2 credits",
      "Spend at most 0.50 USD",
      "Use mini for 0.0004 USD",
      "Wait for a person's approval",
      "Buy 2 packs “small” for 5.00 USD each",
    ]);
  });

  it("says until when to wait", () => {
    expect(remediesOf({ figures: { remedies: [{ type: "wait", until: "2026-11-30T12:00:00Z" }] } })[0]).toMatch(/^Wait until \d+ (Nov|Dec) 2026/);
  });

  it.each([
    [{}, []],
    [{ remedies: "none" }, []],
    [{ remedies: [null, {}, { type: "ask_a_friend" }] }, ["Ask a friend"]],
    [{ remedies: [{ type: "cheaper_model" }] }, ["Cheaper model"]],
  ])("shows what it can of %j", (figures, texts) => {
    expect(remediesOf({ figures })).toEqual(texts);
  });
});

describe("the first charge of a refused double charge", () => {
  it.each([
    ["probable_double_charge", { charge_id: "a" }, "a"],
    ["probable_double_charge", { charge_id: 1 }, null],
    ["probable_double_charge", {}, null],
    ["insufficient_credits", { charge_id: "a" }, null],
  ])("of %s %j", (code, figures, first) => {
    expect(firstChargeOf({ code, figures })).toBe(first);
  });
});
