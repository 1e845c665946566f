import { describe, expect, it } from "vitest";

import { formatAgo, formatExact, formatLocal, formatUtc, fromLocalInput, startOfDay, toLocalInput } from "./dates";

const MORNING = "2026-11-21T10:39:51Z";

describe("a moment", () => {
  it("is shown in local time and in UTC", () => {
    expect(formatLocal(MORNING)).toBe("21 Nov 2026, 11:39");
    expect(formatLocal(MORNING, "America/New_York")).toBe("21 Nov 2026, 05:39");
    expect(formatExact(MORNING, "UTC")).toBe("21 Nov 2026, 10:39:51");
    expect(formatUtc("2026-11-21T11:39:51.123456+01:00")).toBe("2026-11-21 10:39:51 UTC");
  });

  it("is shown relative to now", () => {
    const now = new Date(MORNING);
    expect(formatAgo("2026-11-21T10:39:20Z", now)).toBe("just now");
    expect(formatAgo("2026-11-21T10:36:00Z", now)).toBe("3 minutes ago");
    expect(formatAgo("2026-11-20T10:00:00Z", now)).toBe("yesterday");
    expect(formatAgo("2026-11-21T18:40:00Z", now)).toBe("in 8 hours");
  });
});

describe("inputs", () => {
  it("return local midnight, also across a clock change", () => {
    expect(startOfDay("2026-11-21")).toBe("2026-11-20T23:00:00.000Z");
    expect(startOfDay("2026-10-25", 1)).toBe("2026-10-25T23:00:00.000Z");
    expect(startOfDay("2026-10-25")).toBe("2026-10-24T22:00:00.000Z");
    expect(startOfDay("soon")).toBeNull();
  });

  it("round-trip", () => {
    expect(toLocalInput(MORNING)).toBe("2026-11-21T11:39");
    expect(fromLocalInput("2026-11-21T11:39")).toBe("2026-11-21T10:39:00.000Z");
    expect(fromLocalInput("")).toBeNull();
  });
});
