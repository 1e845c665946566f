/** The days of a report: UTC days, both ends included, stored in the URL. */

export const PRESETS = { "7": "7 days", "30": "30 days", "90": "90 days" } as const;
export type Preset = keyof typeof PRESETS;
export const MOST_DAYS = 366;
const DEFAULT: Preset = "30";
const DAY_MS = 86_400_000;

export interface Range {
  from: string;
  to: string;
  preset: Preset | "custom";
}

/** Return the range in the URL; the default range when it is invalid. */
export function rangeOf(params: URLSearchParams, now: Date): Range {
  const [from, to] = [params.get("from") ?? "", params.get("to") ?? ""];
  if (rangeProblem(from, to) === null) return { from, to, preset: "custom" };
  const days = params.get("days") ?? "";
  const preset = days in PRESETS ? (days as Preset) : DEFAULT;
  return { ...lastDays(Number(preset), now), preset };
}

export function lastDays(days: number, now: Date): { from: string; to: string } {
  const to = utcDay(now);
  return { from: plusDays(to, 1 - days), to };
}

/** Return why two days are not a valid range; null: they are. */
export function rangeProblem(from: string, to: string): string | null {
  const [first, last] = [dayNumber(from), dayNumber(to)];
  if (first === null || last === null) return "Enter both days";
  if (first > last) return "The first day must not be after the last";
  return last - first >= MOST_DAYS ? `At most ${MOST_DAYS} days` : null;
}

/** Change the range in the URL, and drop the cursor, which is only valid for its range. */
export function withRange(params: URLSearchParams, range: Preset | { from: string; to: string }): URLSearchParams {
  const next = new URLSearchParams(params);
  for (const name of ["days", "from", "to", "cursor"]) next.delete(name);
  if (typeof range === "string") next.set("days", range);
  else {
    next.set("from", range.from);
    next.set("to", range.to);
  }
  return next;
}

/** Whether a UTC day is today. */
export function isToday(day: string, now = new Date()): boolean {
  return day === utcDay(now);
}

export function utcDay(now: Date): string {
  return now.toISOString().slice(0, 10);
}

export function plusDays(day: string, days: number): string {
  return utcDay(new Date(Date.parse(`${day}T00:00:00Z`) + days * DAY_MS));
}

/** Return the days since 1970; null: not a valid day. */
function dayNumber(day: string): number | null {
  if (!/^\d{4}-\d{2}-\d{2}$/.test(day)) return null;
  const at = Date.parse(`${day}T00:00:00Z`);
  return Number.isNaN(at) || utcDay(new Date(at)) !== day ? null : at / DAY_MS;
}

/** "21 Nov 2026"; short: "21 Nov". A UTC day in every time zone. */
export function formatDay(day: string, short = false): string {
  return new Intl.DateTimeFormat("en-GB", {
    day: "numeric",
    month: "short",
    year: short ? undefined : "numeric",
    timeZone: "UTC",
  }).format(new Date(`${day}T00:00:00Z`));
}

/** Return the number of whole weeks between a cohort's Monday and a day. */
export function weekOf(cohort: string, day: string): number {
  return Math.floor(((dayNumber(day) ?? 0) - (dayNumber(cohort) ?? 0)) / 7);
}
