import { describe, expect, it } from "vitest";

import { formatDay, plusDays, rangeOf, rangeProblem, weekOf, withRange } from "./ranges";

// In Berlin, where the tests run, it is already the 22nd.
const NOW = new Date("2026-11-21T23:30:00Z");
const rangeIn = (query: string) => rangeOf(new URLSearchParams(query), NOW);

describe("a range in the URL", () => {
  it("counts UTC days, today included", () => {
    expect(rangeIn("days=7")).toEqual({ from: "2026-11-15", to: "2026-11-21", preset: "7" });
    expect(rangeIn("")).toEqual({ from: "2026-10-23", to: "2026-11-21", preset: "30" });
    expect(rangeIn("from=2026-02-01&to=2026-02-28")).toEqual({ from: "2026-02-01", to: "2026-02-28", preset: "custom" });
  });

  it("is the default when invalid", () => {
    for (const query of ["days=8", "from=2026-02-01", "from=2026-02-30&to=2026-03-01", "from=2026-03-01&to=2026-02-01"]) {
      expect(rangeIn(query).preset).toBe("30");
    }
  });

  it("is rejected with a reason", () => {
    expect(rangeProblem("2026-01-02", "2026-01-01")).toBe("The first day must not be after the last");
    expect(rangeProblem("2025-01-01", "2026-01-01")).toBeNull();
    expect(rangeProblem("2025-01-01", "2026-01-02")).toBe("At most 366 days");
    expect(rangeProblem("", "2026-01-02")).toBe("Enter both days");
  });

  it("replaces the previous range, and keeps other parameters", () => {
    const params = new URLSearchParams("environment=test&days=7&cursor=abc");
    expect(withRange(params, { from: "2026-01-01", to: "2026-01-02" }).toString()).toBe(
      "environment=test&from=2026-01-01&to=2026-01-02",
    );
    expect(withRange(new URLSearchParams("from=2026-01-01&to=2026-01-02"), "90").toString()).toBe("days=90");
  });
});

describe("days", () => {
  it("are the same in every time zone", () => {
    expect(formatDay("2026-11-21")).toBe("21 Nov 2026");
    expect(formatDay("2026-11-01", true)).toBe("1 Nov");
    expect(plusDays("2026-02-28", 1)).toBe("2026-03-01");
  });

  it("are counted in a cohort's weeks", () => {
    expect(weekOf("2026-11-02", "2026-11-08")).toBe(0);
    expect(weekOf("2026-11-02", "2026-11-09")).toBe(1);
  });
});
