/** Usage by hour, day or month: every period of a range, also those without events. Times are UTC. */
import type { UsageSum } from "../api/models";
import { formatDay, plusDays, type Range } from "./ranges";

export const INTERVALS = { hour: "Hour", day: "Day", month: "Month" } as const;
export type Interval = keyof typeof INTERVALS;

/** The most periods that a chart has and a request returns. */
export const MOST_PERIODS = 1000;
const HOURS = 24;

export interface UsagePeriod {
  /** The start of the period, as the service writes it. */
  period: string;
  events: number;
  refused: number;
  /** The sums by currency. */
  sums: Record<string, UsageSum>;
}

/** Return the starts of all periods of the range; both days are included. */
export function periodsOf({ from, to }: Pick<Range, "from" | "to">, interval: Interval): string[] {
  const days: string[] = [];
  for (let day = from; day <= to; day = plusDays(day, 1)) days.push(day);
  if (interval === "day") return days.map((day) => `${day}T00:00:00Z`);
  if (interval === "month") return [...new Set(days.map((day) => `${day.slice(0, 7)}-01T00:00:00Z`))];
  return days.flatMap((day) => Array.from({ length: HOURS }, (_, hour) => `${day}T${String(hour).padStart(2, "0")}:00:00Z`));
}

/** Return the interval, or "day" for a range that has too many hours. */
export function intervalFor(interval: Interval, range: Pick<Range, "from" | "to">): Interval {
  return interval === "hour" && periodsOf(range, "day").length * HOURS > MOST_PERIODS ? "day" : interval;
}

/** Return one row for each period. */
export function filled(sums: UsageSum[], periods: string[]): UsagePeriod[] {
  const rows = new Map(periods.map((period): [string, UsagePeriod] => [period, { period, events: 0, refused: 0, sums: {} }]));
  for (const sum of sums) {
    const row = rows.get(sum.period ?? "");
    if (row === undefined) continue;
    row.events += sum.events;
    row.refused += sum.refused;
    row.sums[sum.currency] = sum;
  }
  return [...rows.values()];
}

/** "21 Nov 2026, 14:00", "21 Nov 2026", "Nov 2026"; short without the year. */
export function periodLabel(period: string, interval: Interval, short = false): string {
  const day = period.slice(0, 10);
  if (interval === "day") return formatDay(day, short);
  if (interval === "month") {
    return new Intl.DateTimeFormat("en-GB", { month: "short", year: "numeric", timeZone: "UTC" }).format(new Date(period));
  }
  return `${formatDay(day, short)}, ${period.slice(11, 16)}`;
}

export function currenciesIn(rows: UsagePeriod[]): string[] {
  return [...new Set(rows.flatMap(({ sums }) => Object.keys(sums)))].sort();
}
