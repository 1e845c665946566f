import { describe, expect, it } from "vitest";

import type { MarginModel } from "../api/models";
import { lossesOf } from "./margins";

function model(name: string | null, margin_cents: string | null): MarginModel {
  const none = { interactions: 1, llm_calls: 1, prompt_tokens: 1, completion_tokens: 1, cost_per_interaction_cents: null };
  return { ...none, model: name, currency: "USD", paid_spent: "1", revenue_cents: "1", cost_cents: "1", margin_cents };
}

describe("lossesOf", () => {
  it("returns models that cost more than they earn, the largest loss first", () => {
    const models = [model("even", "0"), model("a", "-0.0000000001"), model("gain", "3"), model("b", "-20"), model("EUR", null)];
    expect(lossesOf(models).map((one) => one.model)).toEqual(["b", "a"]);
  });
});
