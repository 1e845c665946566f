import { describe, expect, it } from "vitest";

import { setCurrencies } from "./currencies";
import { EXAMPLES } from "./currencies.examples";
import { formatChange, formatCredits, formatMoney, formatRate, humanize, moneyInput, parseMoney, shortId } from "./format";

setCurrencies(EXAMPLES);

describe("credits", () => {
  it("are grouped, counted and signed", () => {
    expect(formatCredits(1)).toBe("1 credit");
    expect(formatCredits(1234567)).toBe("1,234,567 credits");
    expect(formatChange(20)).toBe("+20");
    expect(formatChange(-1500)).toBe("−1,500");
    expect(formatChange(0)).toBe("0");
  });
});

describe("money", () => {
  it("has the number of digits of its currency", () => {
    expect(formatMoney(1999, "usd")).toBe("19.99 USD");
    expect(formatMoney(-5, "USD")).toBe("−0.05 USD");
    expect(formatMoney(500, "jpy")).toBe("500 JPY");
    expect(formatMoney(1500, "no such")).toBe("15.00 NO SUCH");
  });

  it("uses the provider's digits instead of the browser's", () => {
    expect(formatMoney(17_500, "HUF")).toBe("175.00 HUF");
    expect(formatMoney(1_500_000, "IDR")).toBe("15,000.00 IDR");
    expect(formatMoney(500, "ISK")).toBe("5.00 ISK");
    expect(formatMoney(5000, "MGA")).toBe("5,000 MGA");
    expect(formatMoney(5120, "KWD")).toBe("5.120 KWD");
    for (const [code, minor] of [["HUF", 17_550], ["IDR", 1_500_000], ["ISK", 500], ["MGA", 5000], ["KWD", 5120]] as const) {
      expect(parseMoney(moneyInput(minor, code), code)).toBe(minor);
    }
  });

  it("is parsed exactly", () => {
    expect(parseMoney("19.99", "usd")).toBe(1999);
    expect(parseMoney(" 0,5 ", "usd")).toBe(50);
    expect(parseMoney("1.15", "usd")).toBe(115);
    expect(parseMoney("7", "jpy")).toBe(7);
  });

  it("is rejected when it is not an amount of the currency", () => {
    for (const text of ["", "-1", "1.999", "1e3", "abc", "1.", "1,000.00"]) expect(parseMoney(text, "usd")).toBeNull();
    expect(parseMoney("1.5", "jpy")).toBeNull();
  });
});

describe("prices", () => {
  it("are formatted for input fields", () => {
    expect(moneyInput(500, "USD")).toBe("5.00");
    expect(moneyInput(99_999_999, "USD")).toBe("999999.99");
    expect(moneyInput(500, "JPY")).toBe("500");
    for (const minor of [1, 29, 115, 1999, 99_999_999]) expect(parseMoney(moneyInput(minor, "USD"), "USD")).toBe(minor);
  });

  it("per unit are exact or marked as rounded", () => {
    expect(formatRate(500, 20, "USD")).toBe("0.25 USD");
    expect(formatRate(1999, 100, "USD")).toBe("0.1999 USD");
    expect(formatRate(500, 30, "USD")).toBe("about 0.166667 USD");
    expect(formatRate(500, 20, "JPY")).toBe("25 JPY");
  });
});

describe("names", () => {
  it("are humanized", () => {
    expect(humanize("paid_not_credited")).toBe("Paid not credited");
    expect(humanize("account.revoke_tokens")).toBe("Account revoke tokens");
  });

  it("are shortened to both ends of an id", () => {
    expect(shortId("0198c7f2-1111-7222-8333-444455556666")).toBe("0198c7f2…6666");
    expect(shortId("short")).toBe("short");
  });
});
