import { describe, expect, it } from "vitest";

import type { PlanDocument } from "../api/models";
import { factsOf } from "./configuration";
import { setCurrencies } from "./currencies";
import { EXAMPLES } from "./currencies.examples";
import { freshPlan, parsePlans, planRows, planSentence, pricesOf, type PlanRow } from "./plans";

setCurrencies(EXAMPLES);

const STANDARD: PlanDocument = {
  name: "standard",
  title: "Standard",
  prices: [
    { interval: "month", currency: "USD", amount_minor: 2000, stripe_price_live: "price_1A", stripe_price_test: null },
    { interval: "year", currency: "JPY", amount_minor: 20_000, stripe_price_live: null, stripe_price_test: "price_2" },
  ],
  by_agreement: false,
  grants: [
    { unit: "money", currency: "USD", amount: "25.00", cadence: "month", expires: "never", expires_after_days: null, rollover: "none", rollover_up_to: null },
    { unit: "credit", currency: null, amount: "100", cadence: "day", expires: "period_end", expires_after_days: null, rollover: "up_to", rollover_up_to: "50" },
    { unit: "credit", currency: null, amount: "5", cadence: "once", expires: "after_days", expires_after_days: 30, rollover: "none", rollover_up_to: null },
    { unit: "money", currency: "EUR", amount: "0.5", cadence: "month", expires: "period_end", expires_after_days: null, rollover: "all", rollover_up_to: null },
  ],
  purchase_discount_percent: "10",
  markup_percent: "-2.5",
  default_limits: [
    { scope: "account", scope_value: null, window: "day", unit: "USD", amount: "10.50", action: "refuse" },
    { scope: "agent", scope_value: "the writer: α", window: "hour", unit: "credits", amount: "5", action: "notify" },
  ],
  features: ["One", "Two"],
  order: 1,
  visibility: "hidden",
  withdrawn: true,
};

const row = (changes: Partial<PlanRow>): PlanRow => ({ id: 0, ...freshPlan, name: "p", title: "P", ...changes });

describe("plans", () => {
  it("round-trip through the form", () => {
    expect(parsePlans(planRows({ plans: [STANDARD] }))).toEqual({ document: { plans: [STANDARD] }, errors: null });
  });

  it("are text that is one line for each price, grant and limit", () => {
    const [{ prices, grants, limits }] = planRows({ plans: [STANDARD] }) as [PlanRow];
    expect(prices).toBe("month 20.00 USD live=price_1A\nyear 20000 JPY test=price_2");
    expect(grants).toBe(
      "25.00 USD month never\n100 credits day period_end rollover=50\n5 credits once after_days=30\n0.5 EUR month period_end rollover=all",
    );
    expect(limits).toBe("account day 10.50 USD refuse\nagent:the%20writer%3A%20%CE%B1 hour 5 credits notify");
  });

  it("ignore blank lines and repeated spaces", () => {
    const { document } = parsePlans([row({ prices: "\n  month   5.00  USD \n\n", features: " a \n\nb" })]);
    expect(document?.plans[0]?.prices[0]?.amount_minor).toBe(500);
    expect(document?.plans[0]?.features).toEqual(["a", "b"]);
  });

  it.each([
    ["name", "Plan"],
    ["title", " "],
    ["discount", "100"],
    ["discount", "ten"],
    ["markup", "-101"],
    ["order", "-1"],
    ["prices", "week 5.00 USD"],
    ["prices", "month 0 USD"],
    ["prices", "month 5.00 USD live=prod_1"],
    ["grants", "25.00 USD month"],
    ["grants", "-1 USD month never"],
    ["grants", "1 USD month never rollover=some"],
    ["limits", "agent day 5 USD refuse"],
    ["limits", "account week 5 USD refuse"],
  ] as const)("refuse the %s %j", (field, text) => {
    expect(Object.keys(parsePlans([row({ [field]: text })]).errors ?? {})).toEqual([`0.${field}`]);
  });

  it("name the wrong line", () => {
    const { errors } = parsePlans([row({ grants: "25.00 USD month never\nnonsense" })]);
    expect(errors?.["0.grants"]).toMatch(/^Line 2: /);
  });

  it("have distinct names", () => {
    expect(parsePlans([row({}), row({ id: 1 })]).errors).toEqual({ "1.name": "This name is already used" });
  });

  it("are described in a sentence, and become facts for comparison", () => {
    const { plans } = parsePlans([row({ prices: "month 5.00 USD", grants: "1 USD month never" })]).document ?? { plans: [] };
    expect(factsOf({ plans })).toEqual({ "plan p": "P; month 5.00 USD; grants 1 USD month never" });
    expect(planSentence(STANDARD)).toContain("10 % off purchases; -2.5 % markup; limit account day");
  });

  it("show their prices", () => {
    expect(pricesOf(STANDARD)).toBe("20.00 USD a month, 20,000 JPY a year");
    expect(pricesOf({ prices: [], by_agreement: true })).toBe("By agreement");
    expect(pricesOf({ prices: [], by_agreement: false })).toBe("Free");
  });
});
