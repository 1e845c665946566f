import { describe, expect, it } from "vitest";

import { setCurrencies } from "./currencies";
import { EXAMPLES } from "./currencies.examples";
import { categoryName, draftOf, grantAmount, limitText } from "./grants";

setCurrencies(EXAMPLES);

describe("amounts of grants", () => {
  it.each([
    ["1", "credit", "1 credit"],
    ["1200", "credit", "1,200 credits"],
    ["5.000000", "USD", "5.00 USD"],
    ["0.000000001", "USD", "0.000000001 USD"],
  ])("%s %s is %s", (amount, unit, text) => {
    expect(grantAmount(amount, unit)).toBe(text);
  });

  it.each([
    ["5", "5.00 USD", null],
    ["0.0000004", "0.0000004 USD", null],
    ["", null, "Enter an amount"],
    ["0.00", null, "Enter more than 0"],
    ["1,50", null, "Use a point for decimals, and no thousands separators"],
    ["10.000000001", "10.000000001 USD", "Exceeds the limit of your role: ask an admin"],
  ])("money %s", (text, amount, problem) => {
    expect(draftOf("money", text, "USD", 10)).toMatchObject({ amount, problem });
  });

  it.each([
    ["20", "20 credits", null],
    ["1.5", null, "Enter a whole number: no decimals"],
    ["101", "101 credits", "Exceeds the limit of your role: ask an admin"],
  ])("credits %s", (text, amount, problem) => {
    expect(draftOf("credits", text, "USD", 100)).toMatchObject({ amount, problem });
  });

  it("large amounts have to be confirmed", () => {
    expect(draftOf("credits", "10001", "USD", null).unusual).toBe("10,001 credits");
    expect(draftOf("money", "1000.01", "USD", null).unusual).toBe("1,000.01 USD");
    expect(draftOf("money", "1000", "USD", null).unusual).toBeNull();
  });

  it("names limits and categories", () => {
    expect([limitText("money", "USD", 10), limitText("credits", "USD", 1), limitText("money", "USD", null)]).toEqual([
      "Your role can give up to 10 USD at once",
      "Your role can give up to 1 credit at once",
      undefined,
    ]);
    expect(["promotional", "purchased", "new"].map(categoryName)).toEqual(["Promotion", "Purchased", "new"]);
  });
});
