import { expect, it } from "vitest";

import { cohortRows, heatOf } from "./cohortTable";

it("rows are as wide as the oldest cohort; weeks without usage are 0, future weeks null", () => {
  const cohorts = [
    { first_day: "2026-11-02", accounts: 10, ever_paid: 2, weeks: [{ week: 0, active: 9, credits: 20 }, { week: 2, active: 3, credits: 4 }] },
    { first_day: "2026-11-16", accounts: 4, ever_paid: 0, weeks: [] },
  ];
  expect(cohortRows(cohorts, "2026-11-21").map(({ active }) => active)).toEqual([
    [9, 0, 3],
    [0, null, null],
  ]);
  expect(cohortRows([], "2026-11-21")).toEqual([]);
});

it("a cell's colour is stronger for a larger share", () => {
  expect([0, 1, 5, 10].map((active) => heatOf(active, 10))).toEqual([0, 1, 3, 4]);
  expect(heatOf(0, 0)).toBe(0);
});
