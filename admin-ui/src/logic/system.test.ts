import { describe, expect, it } from "vitest";

import { workerState } from "./system";

describe("the worker", () => {
  it("is judged by the server's clock", () => {
    const now = "2026-11-21T10:40:00Z";
    expect(workerState("2026-11-21T10:39:30Z", now).tone).toBe("good");
    expect(workerState("2026-11-21T10:38:00Z", now).tone).toBe("bad");
    expect(workerState(null, now).label).toBe("Worker never seen");
  });
});
