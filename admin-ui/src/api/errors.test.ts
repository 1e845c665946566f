import { describe, expect, it } from "vitest";

import { didNothing, errorOf, mayPass, unanswered } from "./errors";

describe("an error answer", () => {
  it("tells its sentence, code and request", () => {
    const error = errorOf(402, { detail: "Not enough credits", code: "insufficient", request_id: "r1" }, "r2");
    expect(error).toMatchObject({ status: 402, message: "Not enough credits", code: "insufficient", requestId: "r1" });
  });

  it("names the fields that are wrong", () => {
    const detail = [{ type: "missing", loc: ["body", "name"], msg: "Field required" }];
    expect(errorOf(422, { detail, code: "invalid", request_id: null }, "r2")).toMatchObject({
      message: "name: Field required",
      requestId: "r2",
    });
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
