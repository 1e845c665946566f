import type { Cohort } from "../../api/models";
import { weekOf } from "../../logic/ranges";

export interface CohortRow extends Omit<Cohort, "weeks"> {
  /** Active accounts by week since the first; null: that week has not begun. */
  active: (number | null)[];
}

/** One row a cohort, as wide as the oldest: weeks without use are 0, weeks that are to come null. */
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

/** How strong a cell's colour is, 0 to 4, by the part of the cohort that came back. */
export function heatOf(active: number, accounts: number): number {
  return accounts === 0 || active === 0 ? 0 : Math.min(4, 1 + Math.floor((active / accounts) * 5));
}
