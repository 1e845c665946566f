import { describe, expect, it } from "vitest";

import { filterOf, meterName, quantitiesText } from "./labels";

describe("labels of usage", () => {
  it.each<[Record<string, unknown>, string]>([
    [{ mode: "batch", output_text: 100, input_uncached: 1000 }, "1,000 input, 100 output, mode batch"],
    [{ cpu_hours: "0.5", memory_gb_hours: "2" }, "0.5 cpu hours, 2 memory gb hours"],
    [{ count: 3, endpoint: "/search" }, "3 count, endpoint /search"],
    [{}, "—"],
  ])("quantities %o", (quantities, text) => {
    expect(quantitiesText(quantities)).toBe(text);
  });

  it("name meters and filters", () => {
    expect(["llm_tokens", "sms"].map(meterName)).toEqual(["LLM tokens", "Sms"]);
    expect([filterOf("user"), filterOf("run")]).toEqual(["account_id", "run"]);
  });
});
