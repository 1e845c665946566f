import { describe, expect, it } from "vitest";

import { className, fieldName, perOf, pricesOf, providerName, reasonOf } from "./labels";

describe("labels of prices", () => {
  it.each([
    ["no_row", "The price book has no row for it"],
    ["no_price_for_mode: batch", "The mode has no price: Batch"],
    ["no_price_for_class: audio_in", "A token class has no price: Audio in"],
    ["no_row: tool_calls", "The price book has no row for it: Tool calls"],
    ["new_reason", "New reason"],
  ])("reason %s", (problem, text) => {
    expect(reasonOf(problem)).toBe(text);
  });

  it.each([
    ["prices.output_text", "Output"],
    ["steps[0].above", "Steps 1 above"],
    ["percent", "Percent"],
    ["provider_aliases.x_ai", "Provider alias x_ai"],
  ])("field %s", (field, text) => {
    expect(fieldName(field)).toBe(text);
  });

  it("lists prices in the order of the classes", () => {
    expect(pricesOf({ output_text: "15", input_uncached: "3" })).toEqual([
      ["Input", "3"],
      ["Output", "15"],
    ]);
    expect([className("cache_read"), className("cpu_hours")]).toEqual(["Cache read", "Cpu hours"]);
    expect(["*", "", "openai"].map(providerName)).toEqual(["Any provider", "Empty name", "openai"]);
    expect([perOf(1), perOf(1_000_000)]).toEqual(["each", "per 1,000,000"]);
  });
});
