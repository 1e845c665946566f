import { describe, expect, it } from "vitest";

import type { Money } from "../api/models";
import { moneyCurrenciesOf, moneyIn } from "./money";

const euros: Money = { ...moneyIn([], "EUR"), events: 3, cost: "0.300000" };

describe("moneyCurrenciesOf", () => {
  it("names each currency of any row once, in order", () => {
    const usd = moneyIn([], "USD");
    expect(moneyCurrenciesOf([{ money: [usd] }, { money: [] }, { money: [euros, usd] }])).toEqual(["EUR", "USD"]);
  });
  it("is empty without money", () => {
    expect(moneyCurrenciesOf([{ money: [] }])).toEqual([]);
  });
});

describe("moneyIn", () => {
  it("finds the figures of a currency", () => {
    expect(moneyIn([euros], "EUR")).toBe(euros);
  });
  it("is zero in a currency without figures", () => {
    const none = moneyIn([euros], "USD");
    expect(none).toMatchObject({ currency: "USD", events: 0, cost: "0.000000", debt_paid: "0.000000" });
  });
});
