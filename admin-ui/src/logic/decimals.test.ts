import { describe, expect, it } from "vitest";

import { setCurrencies } from "./currencies";
import { EXAMPLES } from "./currencies.examples";
import { formatAmount, formatCents, formatDecimal, formatExact, formatGrowth, formatRoundedAmount, formatRoundedCents, formatShare, isZero, plainUnits } from "./decimals";

setCurrencies(EXAMPLES);

describe("cents with fractions", () => {
  it("keep every digit", () => {
    expect(formatCents("123.4567", "usd")).toBe("1.234567 USD");
    expect(formatCents("0.0000000001", "USD")).toBe("0.000000000001 USD");
    expect(formatCents("-5", "USD")).toBe("−0.05 USD");
    expect(formatCents("90071992547409931.10", "USD")).toBe("900,719,925,474,099.311 USD");
    expect(formatCents("1500", "JPY")).toBe("1,500 JPY");
    expect(formatCents("1.5", "JPY")).toBe("1.5 JPY");
    expect(formatCents("0", "USD")).toBe("0.00 USD");
  });

  it("are rounded half away from zero", () => {
    expect(formatRoundedCents("123.5", "USD")).toBe("1.24 USD");
    expect(formatRoundedCents("-123.5", "USD")).toBe("−1.24 USD");
    expect(formatRoundedCents("99.49", "USD")).toBe("0.99 USD");
    expect(formatRoundedCents("-0.4", "USD")).toBe("0.00 USD");
    expect(formatRoundedCents("100000000.0", "USD")).toBe("1,000,000.00 USD");
    expect(formatRoundedCents("16.6666666667", "USD", 4)).toBe("0.166667 USD");
    expect(formatRoundedCents("0.5", "USD", 4)).toBe("0.005000 USD");
  });

  it("are plain numbers in a spreadsheet", () => {
    expect(plainUnits("-123456.70", "USD")).toBe("-1234.567");
    expect(plainUnits("100", "USD")).toBe("1");
  });

  it("are rejected when they are not decimals", () => {
    expect(() => formatCents("1e3", "USD")).toThrow("not a decimal: 1e3");
    expect(() => formatCents("NaN", "USD")).toThrow();
  });
});

describe("parts and growth", () => {
  it("are shown in percent", () => {
    expect(formatShare(1, 8)).toBe("12.5 %");
    expect(formatShare("33.333", "100")).toBe("33.3 %");
    expect(formatShare(0, 0)).toBeNull();
    expect(formatGrowth(9, 8)).toBe("+12.5 %");
    expect(formatGrowth(6, 8)).toBe("−25 %");
    expect(formatGrowth(-50, -100)).toBe("+50 %");
    expect(formatGrowth(3, 0)).toBe("new");
    expect(formatGrowth(3, 3)).toBeNull();
  });
});

describe("formatDecimal", () => {
  it.each([
    ["1234.5000000000", "1,234.5"],
    ["0.3333333333", "0.33"],
    ["20", "20"],
    ["0", "0"],
  ])("%s is %s", (decimal, expected) => {
    expect(formatDecimal(decimal)).toBe(expected);
  });
});

describe("amounts in the major unit", () => {
  it("keep every digit", () => {
    expect(formatAmount("9007199254.740993001", "USD")).toBe("9,007,199,254.740993001 USD");
    expect(formatAmount("0.000400", "USD")).toBe("0.0004 USD");
    expect(formatAmount("-5.000000", "usd")).toBe("−5.00 USD");
    expect(formatAmount("1500.000000", "JPY")).toBe("1,500 JPY");
    expect(formatExact("1000000.50")).toBe("1,000,000.5");
  });

  it("are rounded half away from zero", () => {
    expect(formatRoundedAmount("0.005", "USD")).toBe("0.01 USD");
    expect(formatRoundedAmount("0.0004999", "USD", 2)).toBe("0.0005 USD");
    expect(formatRoundedAmount("1234.5", "JPY")).toBe("1,235 JPY");
  });

  it.each([["0", true], ["0.000000", true], ["-0.00", true], ["0.000000001", false], ["10", false]])("%s is zero: %s", (text, zero) => {
    expect(isZero(text)).toBe(zero);
  });
});
