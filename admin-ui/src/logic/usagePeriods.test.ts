import { describe, expect, it } from "vitest";

import type { UsageSum } from "../api/models";
import { currenciesIn, filled, intervalFor, periodLabel, periodsOf } from "./usagePeriods";

function sum(period: string, currency: string, events: number): UsageSum {
  return {
    group: {},
    period,
    currency,
    events,
    refused: 1,
    cost: "1",
    correction: "0",
    recorded_cost: "0",
    provider_cost: "1",
    debt: "0",
    quantities: {},
    margin: "0",
    without_provider_cost: 0,
    person: null,
  };
}

describe("periods of usage", () => {
  it("contain both days", () => {
    expect(periodsOf({ from: "2026-11-29", to: "2026-12-01" }, "day")).toEqual([
      "2026-11-29T00:00:00Z",
      "2026-11-30T00:00:00Z",
      "2026-12-01T00:00:00Z",
    ]);
    expect(periodsOf({ from: "2026-11-29", to: "2026-12-01" }, "month")).toEqual(["2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"]);
    const hours = periodsOf({ from: "2026-11-29", to: "2026-11-29" }, "hour");
    expect([hours.length, hours[9], hours.at(-1)]).toEqual([24, "2026-11-29T09:00:00Z", "2026-11-29T23:00:00Z"]);
  });

  it("are days when there are too many hours", () => {
    expect(intervalFor("hour", { from: "2026-11-01", to: "2026-11-30" })).toBe("hour");
    expect(intervalFor("hour", { from: "2026-09-01", to: "2026-11-30" })).toBe("day");
    expect(intervalFor("month", { from: "2026-01-01", to: "2026-11-30" })).toBe("month");
  });

  it("without events are rows of zeros, and currencies stay apart", () => {
    const periods = periodsOf({ from: "2026-11-29", to: "2026-11-30" }, "day");
    const rows = filled([sum(periods[1] ?? "", "USD", 2), sum(periods[1] ?? "", "EUR", 3), sum("2020-01-01T00:00:00Z", "USD", 9)], periods);
    expect(rows.map(({ events, refused }) => [events, refused])).toEqual([
      [0, 0],
      [5, 2],
    ]);
    expect(currenciesIn(rows)).toEqual(["EUR", "USD"]);
  });

  it.each([
    ["hour", false, "29 Nov 2026, 09:00"],
    ["hour", true, "29 Nov, 09:00"],
    ["day", false, "29 Nov 2026"],
    ["month", true, "Nov 2026"],
  ] as const)("label of an %s", (interval, short, label) => {
    expect(periodLabel("2026-11-29T09:00:00Z", interval, short)).toBe(label);
  });
});
