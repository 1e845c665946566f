import { expect, it } from "vitest";

import { amountText, readAmount } from "./amounts";

it.each([
  ["0", 0],
  ["5", 5_000_000_000],
  ["12.5", 12_500_000_000],
  ["0.000000001", 1],
  ["007.10", 7_100_000_000],
  ["9007199.254740991", Number.MAX_SAFE_INTEGER],
])("reads %s exactly", (text, nanos) => {
  expect(readAmount(text)).toEqual({ value: nanos, problem: null });
});

it.each([
  ["9007199.254740992", "At most 9,007,199"],
  ["99999999999999999999", "At most 9,007,199"],
  ["1.0000000001", "At most 9 decimals"],
  ["1,50", "Use a point for decimals, and no thousands separators"],
  ["-1", "Enter an amount such as 12.50"],
  [" 1", "Enter an amount such as 12.50"],
  ["1e3", "Enter an amount such as 12.50"],
  [".5", "Enter an amount such as 12.50"],
  ["five", "Enter an amount such as 12.50"],
])("rejects %s", (text, problem) => {
  expect(readAmount(text)).toEqual({ value: null, problem });
});

it("accepts an empty text as no amount", () => {
  expect(readAmount("")).toEqual({ value: null, problem: null });
});

it.each([
  [0, "0.00"],
  [1, "0.000000001"],
  [12_500_000_000, "12.50"],
  [Number.MAX_SAFE_INTEGER, "9007199.254740991"],
])("writes %s nanos so that they are read back", (nanos, text) => {
  expect(amountText(nanos)).toBe(text);
  expect(readAmount(text).value).toBe(nanos);
});
