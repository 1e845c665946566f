import type { Cohort } from "../../api/models";
import { weekOf } from "../../logic/ranges";

export interface CohortRow extends Omit<Cohort, "weeks"> {
  /** Active accounts by week since the first; null: a future week. */
  active: (number | null)[];
}

/** Return one row per cohort, as wide as the oldest: weeks without usage are 0, future weeks null. */
export function cohortRows(cohorts: Cohort[], today: string): CohortRow[] {
  const width = Math.max(0, ...cohorts.map(({ first_day }) => weekOf(first_day, today) + 1));
  return cohorts.map(({ weeks, ...cohort }) => {
    const last = weekOf(cohort.first_day, today);
    const active = Array.from({ length: width }, (_, week) =>
      week > last ? null : (weeks.find((one) => one.week === week)?.active ?? 0),
    );
    return { ...cohort, active };
  });
}

/** Return the strength of a cell's colour, 0 to 4, by the share of active accounts. */
export function heatOf(active: number, accounts: number): number {
  return accounts === 0 || active === 0 ? 0 : Math.min(4, 1 + Math.floor((active / accounts) * 5));
}
