import { describe, expect, it } from "vitest";

import { setCurrencies } from "./currencies";
import { EXAMPLES } from "./currencies.examples";
import { humanizeFacts, fieldLabel, humanizeRefund } from "./fieldLabels";

setCurrencies(EXAMPLES);

describe("humanizeFacts", () => {
  it("formats money with its currency, credits as credits, and times in the reader's zone", () => {
    expect(humanizeFacts({ amount_minor: 1250, refunded_minor: 0, currency: "USD" })).toEqual({
      Amount: "12.50 USD",
      Refunded: "0.00 USD",
    });
    expect(humanizeFacts({ paid: 1, credit_id: "c1" })).toEqual({ "Paid credits": "1 credit", "Credit id": "c1" });
    expect(humanizeFacts({ tokens_before: "2026-11-21T10:39:51.123Z" }, "UTC")).toEqual({
      "Tokens revoked that were issued before": "21 Nov 2026, 10:39",
    });
  });

  it("explains empty values", () => {
    const none = { expires_at: null, ip_allow_list: [], rate_limit_per_minute: null, permissions: ["billing:read"] };
    expect(humanizeFacts(none)).toEqual({
      Expires: "never",
      "Allowed networks": "any",
      "Requests per minute": "default",
      Permissions: "billing:read",
    });
    expect(humanizeFacts(null)).toBeNull();
  });

  it("formats nanos as amounts of an unknown currency", () => {
    expect(humanizeFacts({ debt_limit_nanos: 5_000_000_000, max_cost_nanos: null })).toEqual({
      "Debt limit": "5.00",
      "Largest stated cost": "none",
    });
  });

  it("keeps a separate currency field, and does not confuse hundredths of credits with money", () => {
    expect(humanizeFacts({ currency: "EUR", free_uses: 3 })).toEqual({ Currency: "EUR", "Free credits": "3" });
    expect(humanizeFacts({ amount_minor: 100 })).toEqual({ Amount: "1 credit" });
    expect(humanizeFacts({ amount_minor: 150 })).toEqual({ Amount: "1.50 credits" });
  });
});

describe("humanizeRefund", () => {
  it("shows the refunded total before and after", () => {
    const more = { refund_minor: 150, currency: "USD", idempotency_key: "k" };
    expect(humanizeRefund({ refunded_minor: 100, currency: "USD" }, more)).toEqual({
      before: { Refunded: "1.00 USD" },
      after: { Refunded: "2.50 USD", "Idempotency key": "k" },
    });
    expect(humanizeRefund({ refunded_minor: 0 }, { refund_minor: "all that is left" })).toEqual({
      before: { Refunded: "0.00" },
      after: { Refunded: "full amount" },
    });
  });
});

describe("fieldLabel", () => {
  it("humanizes unknown names", () => {
    expect(fieldLabel("default_pack")).toBe("Default pack");
    expect(fieldLabel("withdrawn_minor")).toBe("Withdrawn");
  });
});
