import { describe, expect, it } from "vitest";

import { amountProblem, limitAmount, scopeName, usedPercent } from "./limits";

describe("limits", () => {
  it("formats amounts in their unit", () => {
    expect(limitAmount("1234", "credits")).toBe("1,234 credits");
    expect(limitAmount("1", "uses")).toBe("1 use");
    expect(limitAmount("2.500000", "USD")).toBe("2.50 USD");
  });

  it("names the scope", () => {
    expect(scopeName({ scope: "account", scope_value: null })).toBe("Whole account");
    expect(scopeName({ scope: "agent", scope_value: "scout" })).toBe("Agent scout");
  });

  it.each([
    ["0", "10", 0],
    ["5", "10", 50],
    ["11", "10", 100],
    ["0", "0", 100],
  ])("shows %s of %s as %d percent", (spent, amount, percent) => {
    expect(usedPercent({ spent, amount })).toBe(percent);
  });

  it("rejects amounts that the service would reject", () => {
    expect(amountProblem("credits", "1.5")).not.toBeNull();
    expect(amountProblem("money", "1.5")).toBeNull();
    expect(amountProblem("uses", "")).toBe("Enter an amount");
    expect(amountProblem("uses", "0")).toBeNull();
  });
});
