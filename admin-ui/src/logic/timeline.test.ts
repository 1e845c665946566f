import { describe, expect, it } from "vitest";

import { amountOf, balanceOf, poolName, wasFree } from "./timeline";

const credits = { unit: "credit", amount: null, balance: null };
const money = { pool: "money", unit: "USD", delta: 1, balance_after: 1, amount: "0.000001", balance: "12.345678" };

describe("amountOf", () => {
  it.each([
    ["paid", -10, "\u221210"],
    ["paid", 20, "+20"],
    ["debt", 4, "+4"],
    ["free", -1, "Free"],
    ["daily_free", -3, "Free × 3"],
    ["free", 3, "+3"],
    ["image_gen/free", -1, "Free"],
    ["image_gen/paid", -1, "\u22121"],
  ])("of %s by %i is %s", (pool, delta, expected) => {
    expect(amountOf({ ...credits, pool, delta, balance_after: 1 })).toBe(expected);
  });

  it.each([
    ["0.500000", "+0.50 USD"],
    ["-0.000400", "\u22120.0004 USD"],
  ])("of money of %s has its sign and all digits", (amount, expected) => {
    expect(amountOf({ ...money, amount })).toBe(expected);
  });
});

describe("balanceOf", () => {
  it("names the pool and its balance", () => {
    expect(balanceOf({ ...credits, pool: "paid", delta: -1, balance_after: 1500 })).toBe("Paid credits: 1,500 left");
    expect(balanceOf({ ...credits, pool: "debt", delta: 4, balance_after: 4 })).toBe("Debt: 4 owed");
    expect(balanceOf({ ...credits, pool: "web_search/paid", delta: -1, balance_after: 0 })).toBe("Web search, paid uses: 0 left");
  });

  it("shows the exact balance of money", () => {
    expect(balanceOf(money)).toBe("Money: 12.345678 USD left");
  });

  it("humanizes unknown pools", () => {
    expect(poolName("held")).toBe("Held");
  });
});

describe("wasFree", () => {
  const free = { ...credits, pool: "free", delta: -1, balance_after: 2 };
  const paid = { ...credits, pool: "paid", delta: -1, balance_after: 2 };
  it("is true when only free pools were charged", () => {
    expect(wasFree({ moves: [free, { ...free, pool: "daily_free" }] })).toBe(true);
    expect(wasFree({ moves: [free, paid] })).toBe(false);
    expect(wasFree({ moves: [{ ...free, delta: 3 }] })).toBe(false);
    expect(wasFree({ moves: [] })).toBe(false);
  });
});
