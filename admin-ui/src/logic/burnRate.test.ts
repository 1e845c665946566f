import { describe, expect, it } from "vitest";

import { burnRateDraft, parseBurnRate } from "./burnRate";

const DOCUMENT = { credits_per_minute: 500, money_per_minute: [{ currency: "USD", amount: "20.50" }] };
const OFF = { credits_per_minute: null, money_per_minute: [] };

describe("the burn rate", () => {
  it.each([DOCUMENT, OFF])("round-trips through the form", (document) => {
    expect(parseBurnRate(burnRateDraft(document))).toEqual({ document, errors: null });
  });

  it("has errors by field, and by row and field", () => {
    const row = { id: 0, currency: "usd", amount: "1,5" };
    expect(Object.keys(parseBurnRate({ credits: "0", money: [row] }).errors ?? {})).toEqual(["credits", "0.currency", "0.amount"]);
    const twice = [{ id: 0, currency: "USD", amount: "1" }, { id: 1, currency: "USD", amount: "2" }];
    expect(parseBurnRate({ credits: "", money: twice }).errors).toEqual({ "1.currency": "This currency already has an amount" });
  });

  it.each(["0", "0.0", "", "-1", "1e3", "1.", "1234567890"])("refuses the amount %j", (amount) => {
    const parsed = parseBurnRate({ credits: "", money: [{ id: 0, currency: "USD", amount }] });
    expect(parsed.errors).toEqual({ "0.amount": "Enter a number above 0, such as 5.00" });
  });
});
