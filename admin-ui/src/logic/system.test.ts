import { describe, expect, it } from "vitest";

import { replicaState, workerState } from "./system";

describe("the worker", () => {
  it("is judged by the server's clock", () => {
    const now = "2026-11-21T10:40:00Z";
    expect(workerState("2026-11-21T10:39:30Z", now).tone).toBe("good");
    expect(workerState("2026-11-21T10:38:00Z", now).tone).toBe("bad");
    expect(workerState(null, now).label).toBe("Worker never started");
  });
});

describe("the replica", () => {
  it("is described with its lag, if configured", () => {
    expect(replicaState(null)).toBeNull();
    expect(replicaState({ in_use: true, lag_s: 0.24 })).toBe("In use, 0.2 s behind");
    expect(replicaState({ in_use: false, lag_s: null })).toBe("Not in use: lag unknown. Reports use the primary");
  });
});
