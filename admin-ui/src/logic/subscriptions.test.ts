import { describe, expect, it } from "vitest";

import { setCurrencies } from "./currencies";
import { EXAMPLES } from "./currencies.examples";
import { dashboardUrl, effectOf, kindOf, moneyBack, paymentText, planOf, priceOf, takenBack } from "./subscriptions";

setCurrencies(EXAMPLES);

describe("subscriptions", () => {
  it.each([
    [{ plan_name: "standard", plan_title: "Standard", plan_interval: "month" as const }, "Standard, monthly"],
    [{ plan_name: "pro_plus", plan_title: null, plan_interval: "year" as const }, "Pro plus, yearly"],
    [{ plan_name: "pro", plan_title: "Pro", plan_interval: null }, "Pro"],
    [{ plan_name: null, plan_title: null, plan_interval: null }, "Unknown plan"],
  ])("names the plan %j", (plan, expected) => expect(planOf(plan)).toBe(expected));

  it("shows the price per interval", () => {
    expect(priceOf({ price_minor: 2000, currency: "USD", plan_interval: "month" })).toBe("20.00 USD a month");
    expect(priceOf({ price_minor: 20_000, currency: "JPY", plan_interval: "year" })).toBe("20,000 JPY a year");
    expect(priceOf({ price_minor: null, currency: null, plan_interval: "year" })).toBeNull();
  });

  it("distinguishes a retry from a renewal", () => {
    const payment = { at: "2026-01-01T00:00:00Z", amount_minor: 2000, currency: "USD" };
    expect(paymentText({ ...payment, is_retry: false })).toBe("20.00 USD");
    expect(paymentText({ ...payment, is_retry: true })).toBe("20.00 USD, retry");
    expect(paymentText({ ...payment, amount_minor: null, is_retry: false })).toBe("Amount unknown");
  });

  it.each([
    ["USD:month", "each month"],
    ["credit:day", "each day"],
    ["credit:once", "once"],
    ["USD:month:change:1", "each month, for a change of plan"],
    ["odd", "Odd"],
  ])("describes the kind %s", (kind, expected) => expect(kindOf(kind)).toBe(expected));

  it("describes effects and money that went back", () => {
    expect(effectOf({ outcome: "ignored", given: [] })).toBe("Ignored");
    expect(effectOf({ outcome: "applied", given: [{ unit: "USD", amount: "25.000000" }, { unit: "credit", amount: "5" }] })).toBe(
      "Applied, gave 25.00 USD and 5 credits",
    );
    expect(takenBack({ unit: "USD", taken_back: "0.000000" })).toBeNull();
    expect(takenBack({ unit: "credit", taken_back: "3" })).toBe("3 credits");
    expect(moneyBack({ currency: "USD", refunded_minor: 0, withdrawn_minor: 0 })).toBeNull();
    expect(moneyBack({ currency: "USD", refunded_minor: 500, withdrawn_minor: 1500 })).toBe("5.00 USD refunded, 15.00 USD disputed");
  });

  it("links to Stripe's dashboard", () => {
    expect(dashboardUrl("subscriptions", "sub_1", "live")).toBe("https://dashboard.stripe.com/subscriptions/sub_1");
    expect(dashboardUrl("invoices", "in_1", "test")).toBe("https://dashboard.stripe.com/test/invoices/in_1");
  });
});
