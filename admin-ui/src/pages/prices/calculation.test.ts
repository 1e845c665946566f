import { describe, expect, it } from "vitest";

import { calculationOf, quantityProblem, START, type CalculationValues } from "./calculation";

const CALL: CalculationValues = { ...START, provider: " openai ", model: "gpt-4o" };

function usageOf(changes: Partial<CalculationValues>) {
  return calculationOf({ ...CALL, ...changes }).body?.usage;
}

describe("the calculator's request", () => {
  it("contains the tokens that were typed, without zeros", () => {
    const { body } = calculationOf({ ...CALL, tokens: { input_uncached: "2000", cache_read: "0", reasoning: "" }, plan: "pro" });
    expect(body).toEqual({
      usage: { meter: "llm_tokens", provider: "openai", model: "gpt-4o", mode: "standard", tokens: { input_uncached: 2000 } },
      at: null,
      plan: "pro",
      tool: null,
      month_quantity: "0",
    });
  });

  it("keeps decimals as text", () => {
    expect(usageOf({ meter: "compute", cpuHours: "0.1" })).toEqual({ meter: "compute", cpu_hours: "0.1", memory_gb_hours: "0" });
    expect(usageOf({ meter: "custom", name: "storage", quantity: "1.000000001" })).toEqual({
      meter: "custom",
      name: "storage",
      quantity: "1.000000001",
    });
  });

  it("names calls by endpoint or tool", () => {
    expect(usageOf({ meter: "api_calls", name: "", count: "7" })).toEqual({ meter: "api_calls", endpoint: "", count: 7 });
    expect(usageOf({ meter: "tool_calls", name: "search", count: "7" })).toEqual({ meter: "tool_calls", tool: "search", count: 7 });
  });

  it("leaves out a quantity of the month that the meter does not show", () => {
    expect(calculationOf({ ...CALL, monthQuantity: "x" })).toMatchObject({ body: { month_quantity: "0" }, problem: null });
  });

  it.each<[string, Partial<CalculationValues>]>([
    ["Enter a model", { model: " " }],
    ["Input: enter a whole number: no decimals", { tokens: { input_uncached: "1.5" } }],
    ["Enter a tool", { meter: "tool_calls" }],
    ["Enter a meter", { meter: "custom" }],
    ["Enter a quantity", { meter: "custom", name: "storage", quantity: "" }],
    ["Calls: Enter a whole number", { meter: "api_calls", count: "" }],
    ["Enter a number such as 1.5, with at most 9 decimals", { meter: "compute", cpuHours: "1e3" }],
    ["Enter a number such as 1.5, with at most 9 decimals", { meter: "custom", name: "storage", monthQuantity: "-1" }],
  ])("is not sent: %s", (problem, changes) => {
    expect(calculationOf({ ...CALL, ...changes })).toEqual({ body: null, problem });
  });

  it.each([["1.5", true], ["0", true], ["", true], ["1,5", false], ["1.0000000001", false]])("quantity %s: %s", (text, valid) => {
    expect(quantityProblem(text) === null).toBe(valid);
  });
});
