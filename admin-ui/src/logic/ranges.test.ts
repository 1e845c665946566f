import { describe, expect, it } from "vitest";

import { formatDay, plusDays, rangeOf, rangeProblem, weekOf, withRange } from "./ranges";

// In Berlin it is the 22nd already.
const NOW = new Date("2026-11-21T23:30:00Z");
const asked = (query: string) => rangeOf(new URLSearchParams(query), NOW);

describe("a range in the address", () => {
  it("counts UTC days, today included", () => {
    expect(asked("days=7")).toEqual({ from: "2026-11-15", to: "2026-11-21", preset: "7" });
    expect(asked("")).toEqual({ from: "2026-10-23", to: "2026-11-21", preset: "30" });
    expect(asked("from=2026-02-01&to=2026-02-28")).toEqual({ from: "2026-02-01", to: "2026-02-28", preset: "custom" });
  });

  it("is the usual one where it makes no sense", () => {
    for (const query of ["days=8", "from=2026-02-01", "from=2026-02-30&to=2026-03-01", "from=2026-03-01&to=2026-02-01"]) {
      expect(asked(query).preset).toBe("30");
    }
  });

  it("is refused with a reason", () => {
    expect(rangeProblem("2026-01-02", "2026-01-01")).toBe("The first day is after the last");
    expect(rangeProblem("2025-01-01", "2026-01-01")).toBeNull();
    expect(rangeProblem("2025-01-01", "2026-01-02")).toBe("At most 366 days");
    expect(rangeProblem("", "2026-01-02")).toBe("Two days are needed");
  });

  it("replaces the one before, and leaves the rest", () => {
    const params = new URLSearchParams("environment=test&days=7&cursor=abc");
    expect(withRange(params, { from: "2026-01-01", to: "2026-01-02" }).toString()).toBe(
      "environment=test&from=2026-01-01&to=2026-01-02",
    );
    expect(withRange(new URLSearchParams("from=2026-01-01&to=2026-01-02"), "90").toString()).toBe("days=90");
  });
});

describe("days", () => {
  it("are the same for every reader", () => {
    expect(formatDay("2026-11-21")).toBe("21 Nov 2026");
    expect(formatDay("2026-11-01", true)).toBe("1 Nov");
    expect(plusDays("2026-02-28", 1)).toBe("2026-03-01");
  });

  it("belong to a cohort's weeks", () => {
    expect(weekOf("2026-11-02", "2026-11-08")).toBe(0);
    expect(weekOf("2026-11-02", "2026-11-09")).toBe(1);
  });
});
