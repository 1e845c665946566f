import { describe, expect, it } from "vitest";

import { inWords, nameInWords } from "./told";

describe("inWords", () => {
  it("tells money with its currency, credits as credits, and times as they are here", () => {
    expect(inWords({ refunded_minor: 0, refund_minor: 1250, currency: "USD" })).toEqual({
      "Given back so far": "0.00 USD",
      "Given back now": "12.50 USD",
    });
    expect(inWords({ paid: 1, credit_id: "c1" })).toEqual({ "Paid credits": "1 credit", "Entry in the credits": "c1" });
    expect(inWords({ tokens_before: "2026-11-21T10:39:51.123Z" }, "UTC")).toEqual({
      "Tokens refused that were made before": "21 Nov 2026, 10:39",
    });
  });

  it("says what nothing means", () => {
    const none = { expires_at: null, ip_allow_list: [], rate_limit_per_minute: null, permissions: ["billing:read"] };
    expect(inWords(none)).toEqual({
      Expires: "never",
      "Only from": "anywhere",
      "Requests a minute": "as usual",
      "It may": "billing:read",
    });
    expect(inWords(null)).toBeNull();
  });

  it("keeps a currency that is a fact of its own, and hundredths of credits apart from money", () => {
    expect(inWords({ currency: "EUR", free_uses: 3 })).toEqual({ Currency: "EUR", "One-time free uses": "3" });
    expect(inWords({ amount_minor: 100 })).toEqual({ Amount: "1 credit" });
    expect(inWords({ amount_minor: 150 })).toEqual({ Amount: "1.50 credits" });
    expect(inWords({ refund_minor: "all that is left", currency: "USD" })).toEqual({ "Given back now": "all that is left" });
  });
});

describe("nameInWords", () => {
  it("makes words of names that it does not know", () => {
    expect(nameInWords("default_pack")).toBe("Default pack");
    expect(nameInWords("withdrawn_minor")).toBe("Withdrawn");
  });
});
