import { describe, expect, it } from "vitest";

import { setCurrencies } from "./currencies";
import { EXAMPLES } from "./currencies.examples";
import { humanizeFacts, fieldLabel, humanizeRefund } from "./fieldLabels";

setCurrencies(EXAMPLES);

describe("humanizeFacts", () => {
  it("tells money with its currency, credits as credits, and times as they are here", () => {
    expect(humanizeFacts({ amount_minor: 1250, refunded_minor: 0, currency: "USD" })).toEqual({
      Amount: "12.50 USD",
      "Given back": "0.00 USD",
    });
    expect(humanizeFacts({ paid: 1, credit_id: "c1" })).toEqual({ "Paid credits": "1 credit", "Entry in the credits": "c1" });
    expect(humanizeFacts({ tokens_before: "2026-11-21T10:39:51.123Z" }, "UTC")).toEqual({
      "Tokens refused that were made before": "21 Nov 2026, 10:39",
    });
  });

  it("says what nothing means", () => {
    const none = { expires_at: null, ip_allow_list: [], rate_limit_per_minute: null, permissions: ["billing:read"] };
    expect(humanizeFacts(none)).toEqual({
      Expires: "never",
      "Only from": "anywhere",
      "Requests a minute": "as usual",
      "It may": "billing:read",
    });
    expect(humanizeFacts(null)).toBeNull();
  });

  it("keeps a currency that is a fact of its own, and hundredths of credits apart from money", () => {
    expect(humanizeFacts({ currency: "EUR", free_uses: 3 })).toEqual({ Currency: "EUR", "Free credits": "3" });
    expect(humanizeFacts({ amount_minor: 100 })).toEqual({ Amount: "1 credit" });
    expect(humanizeFacts({ amount_minor: 150 })).toEqual({ Amount: "1.50 credits" });
  });
});

describe("humanizeRefund", () => {
  it("tells what had been given back, and what will have been", () => {
    const more = { refund_minor: 150, currency: "USD", idempotency_key: "k" };
    expect(humanizeRefund({ refunded_minor: 100, currency: "USD" }, more)).toEqual({
      before: { "Given back": "1.00 USD" },
      after: { "Given back": "2.50 USD", "Idempotency key": "k" },
    });
    expect(humanizeRefund({ refunded_minor: 0 }, { refund_minor: "all that is left" })).toEqual({
      before: { "Given back": "0.00" },
      after: { "Given back": "all that is left" },
    });
  });
});

describe("fieldLabel", () => {
  it("makes words of names that it does not know", () => {
    expect(fieldLabel("default_pack")).toBe("Default pack");
    expect(fieldLabel("withdrawn_minor")).toBe("Withdrawn");
  });
});
