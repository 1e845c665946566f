import { describe, expect, it } from "vitest";

import { didNothing, errorOf, mayPass, problemsOf, unanswered } from "./errors";

describe("an error answer", () => {
  it("tells its sentence, code and request", () => {
    const error = errorOf(402, { detail: "Not enough credits", code: "insufficient", request_id: "r1" }, "r2");
    expect(error).toMatchObject({ status: 402, message: "Not enough credits", code: "insufficient", requestId: "r1" });
  });

  it("names the fields that are wrong as the forms do, and says it at each of them", () => {
    const detail = [
      { type: "missing", loc: ["body", "rate_limit_per_minute"], msg: "Field required" },
      { type: "value_error", loc: ["body", "ip_allow_list", 1, "IPv4Network"], msg: "Value error, is no network" },
      { type: "json_invalid", loc: ["body"], msg: "Not JSON" },
    ];
    const error = errorOf(422, { detail, code: "validation_error", request_id: null }, "r2");
    expect(error).toMatchObject({
      message: "Requests a minute: Field required; Only from (2): is no network; The request: Not JSON",
      requestId: "r2",
    });
    const fields = ["rate_limit_per_minute", "ip_allow_list", "name"];
    expect(fields.map(problemsOf(error))).toEqual(["Field required", "Is no network", undefined]);
  });

  it("finds the field that a sentence is about", () => {
    const answer = (detail: string, code = "invalid_request") => errorOf(422, { detail, code, request_id: null }, null);
    const error = answer("expires_at must lie in the future");
    expect([error.message, problemsOf(error)("expires_at")]).toEqual(Array(2).fill("Expires must lie in the future"));
    expect(answer("Only accounts of ciris.ai can sign in here").problems).toEqual([]);
    expect(answer("reason unknown", "busy")).toMatchObject({ message: "reason unknown", problems: [] });
    expect(problemsOf(new Error("gone"))("reason")).toBeUndefined();
  });

  it("is honest about an answer that is none of ours", () => {
    expect(errorOf(502, null, null).message).toContain("502");
  });
});

describe("trying again", () => {
  it("is worth it where the request was not at fault", () => {
    expect([0, 429, 503].map((status) => mayPass(errorOf(status, null, null)))).toEqual([true, true, true]);
    expect(mayPass(errorOf(409, null, null))).toBe(false);
  });

  it("is not worth it at once where nothing answered for long, and nobody knows what was done", () => {
    const [slow, gone] = [unanswered(new DOMException("", "TimeoutError")), unanswered(new TypeError("fetch failed"))];
    expect([slow, gone].map(mayPass)).toEqual([false, true]);
    expect([slow, gone].map(didNothing)).toEqual([false, false]);
    expect(slow.message).toContain("is not known");
  });

  it("keeps its idempotency key unless the server certainly did nothing", () => {
    expect([0, 409, 500].map((status) => didNothing(errorOf(status, null, null)))).toEqual([false, false, false]);
    expect(didNothing(errorOf(402, null, null))).toBe(true);
  });
});
