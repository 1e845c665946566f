import { describe, expect, it } from "vitest";

import { monthName, percentText, recurringIn, revenueCurrencies } from "./subscriptionFigures";

const USD = { currency: "USD", amount_minor: 2000, paying: 1 };
const EUR = { currency: "EUR", amount_minor: 500, paying: 1 };

describe("figures of subscriptions", () => {
  it("name months", () => {
    expect(monthName("2026-11-01")).toBe("Nov 2026");
    expect(monthName("2026-01-01", true)).toBe("Jan");
  });

  it("are per currency", () => {
    expect(revenueCurrencies([{ recurring: [USD] }, { recurring: [EUR, USD] }, { recurring: [] }])).toEqual(["EUR", "USD"]);
    expect(recurringIn({ recurring: [EUR, USD] }, "USD")).toEqual(USD);
    expect(recurringIn({ recurring: [] }, "USD")).toEqual({ currency: "USD", amount_minor: 0, paying: 0 });
  });

  it("show shares that exist", () => {
    expect(percentText("0.0")).toBe("0.0 %");
    expect(percentText(null)).toBe("—");
  });
});
