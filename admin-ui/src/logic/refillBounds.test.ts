import { describe, expect, it } from "vitest";

import { factsOf } from "./configuration";
import { setCurrencies } from "./currencies";
import { EXAMPLES } from "./currencies.examples";
import { parseRefills, refillsDraft } from "./refillBounds";

setCurrencies(EXAMPLES);

const DOCUMENT = {
  currency: "USD",
  least_trigger: "1.00",
  least_amount: "5.00",
  most_amount: "500.00",
  most_monthly: "1000.00",
  cooldown_s: 60,
  backoff_s: 3600,
  consent_text: "I allow my card to be charged.",
};

describe("bounds of refills", () => {
  it("round-trip through the form", () => {
    expect(parseRefills(refillsDraft(DOCUMENT))).toEqual({ document: DOCUMENT, errors: null });
  });

  it("have errors by field", () => {
    const draft = { ...refillsDraft(DOCUMENT), currency: "US", least_amount: "0", most_amount: "-1", cooldown: "", backoff: "59", consent: "yes" };
    expect(Object.keys(parseRefills(draft).errors ?? {}).sort()).toEqual([
      "backoff",
      "consent",
      "cooldown",
      "currency",
      "least_amount",
      "most_amount",
    ]);
  });

  it("are compared as they are stored", () => {
    expect(factsOf(DOCUMENT)).toEqual(DOCUMENT);
  });
});
