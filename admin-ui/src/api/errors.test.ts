import { describe, expect, it } from "vitest";

import { wasRejected, errorOf, isStale, isRetryable, problemsOf, connectionError } from "./errors";

describe("an error answer", () => {
  it("has the message, the code and the request id", () => {
    const error = errorOf(402, { detail: "Not enough credits", code: "insufficient", request_id: "r1" }, "r2");
    expect(error).toMatchObject({ status: 402, message: "Not enough credits", code: "insufficient", requestId: "r1" });
  });

  it("names invalid fields by their form labels, and lists the message of each", () => {
    const detail = [
      { type: "missing", loc: ["body", "rate_limit_per_minute"], msg: "Field required" },
      { type: "value_error", loc: ["body", "ip_allow_list", 1, "IPv4Network"], msg: "Value error, is no network" },
      { type: "json_invalid", loc: ["body"], msg: "Not JSON" },
    ];
    const error = errorOf(422, { detail, code: "validation_error", request_id: null }, "r2");
    expect(error).toMatchObject({
      message: "Requests per minute: Field required; Allowed networks (2): is no network; Request: Not JSON",
      requestId: "r2",
    });
    const fields = ["rate_limit_per_minute", "ip_allow_list", "name"];
    expect(fields.map(problemsOf(error))).toEqual(["Field required", "Is no network", undefined]);
  });

  it("finds the field that a message is about", () => {
    const answer = (detail: string, field: string | null) =>
      errorOf(422, { detail, code: "invalid_request", request_id: null, field }, null);
    const error = answer("expires_at must lie in the future", "expires_at");
    expect([error.message, problemsOf(error)("expires_at")]).toEqual(Array(2).fill("Expires must lie in the future"));
    expect(problemsOf(answer("no pack is sold in EUR", "currency"))("currency")).toBe("no pack is sold in EUR");
    expect(answer("reason unknown", null)).toMatchObject({ message: "reason unknown", problems: [] });
    expect(problemsOf(new Error("gone"))("reason")).toBeUndefined();
  });

  it("contains the change, its author and the current values", () => {
    const body = {
      detail: "The refunded amount has changed",
      code: "changed_meanwhile",
      request_id: "r",
      current: { refunded_minor: 200, left_minor: 300, currency: "USD" },
      changed_by: "ada@example.com",
      changed_at: "2026-11-21T10:39:51Z",
    };
    const error = errorOf(409, body, null);
    expect(isStale(error)).toBe(true);
    expect(error.message).toContain("(ada@example.com, 21 Nov 2026, 11:39)");
    expect(error.message).toContain("Current values: Refunded: 2.00 USD; Refundable: 3.00 USD.");
    expect(errorOf(409, { ...body, changed_by: null, changed_at: null }, null).message).toContain("has changed. Current values");
  });

  it("reports the status of a response that the service did not write", () => {
    expect(errorOf(502, null, null).message).toContain("502");
  });
});

describe("a retry", () => {
  it("is possible when the request was valid", () => {
    expect([0, 429, 503].map((status) => isRetryable(errorOf(status, null, null)))).toEqual([true, true, true]);
    expect(isRetryable(errorOf(409, null, null))).toBe(false);
  });

  it("is not automatic after a timeout, when the outcome is unknown", () => {
    const [slow, unreachable] = [connectionError(new DOMException("", "TimeoutError")), connectionError(new TypeError("fetch failed"))];
    expect([slow, unreachable].map(isRetryable)).toEqual([false, true]);
    expect([slow, unreachable].map(wasRejected)).toEqual([false, false]);
    expect(slow.message).toContain("may have been processed");
  });

  it("keeps its idempotency key unless the server certainly rejected the request", () => {
    expect([0, 409, 500].map((status) => wasRejected(errorOf(status, null, null)))).toEqual([false, false, false]);
    expect(wasRejected(errorOf(402, null, null))).toBe(true);
  });
});
