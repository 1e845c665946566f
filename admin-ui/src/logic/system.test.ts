import { describe, expect, it } from "vitest";

import { replicaState, workerState } from "./system";

describe("the worker", () => {
  it("is judged by the server's clock", () => {
    const now = "2026-11-21T10:40:00Z";
    expect(workerState("2026-11-21T10:39:30Z", now).tone).toBe("good");
    expect(workerState("2026-11-21T10:38:00Z", now).tone).toBe("bad");
    expect(workerState(null, now).label).toBe("Worker never seen");
  });
});

describe("the replica", () => {
  it("is spoken of where there is one, with its age", () => {
    expect(replicaState(null)).toBeNull();
    expect(replicaState({ in_use: true, lag_s: 0.24 })).toBe("In use, 0.2 s behind");
    expect(replicaState({ in_use: false, lag_s: null })).toBe("Not used: of unknown age. Reports come from the primary");
  });
});
