import { formatCount } from "./format";
const LOCALE = "en-GB";
const UNITS: [Intl.RelativeTimeFormatUnit, number][] = [
  ["year", 31_536_000],
  ["month", 2_592_000],
  ["day", 86_400],
  ["hour", 3_600],
  ["minute", 60],
];

const TO_THE_MINUTE: Intl.DateTimeFormatOptions = {
  day: "numeric",
  month: "short",
  year: "numeric",
  hour: "2-digit",
  minute: "2-digit",
};

/** In the reader's own time zone: "21 Nov 2026, 11:39". */
export function formatLocal(iso: string, timeZone?: string): string {
  return new Intl.DateTimeFormat(LOCALE, { ...TO_THE_MINUTE, timeZone }).format(new Date(iso));
}

/** The same to the second: "21 Nov 2026, 11:39:51". */
export function formatExact(iso: string, timeZone?: string): string {
  return new Intl.DateTimeFormat(LOCALE, { ...TO_THE_MINUTE, second: "2-digit", timeZone }).format(new Date(iso));
}

/** "2026-11-21 10:39:51 UTC" */
export function formatUtc(iso: string): string {
  return `${new Date(iso).toISOString().slice(0, 19).replace("T", " ")} UTC`;
}

/** "3 minutes ago", "in 2 days". */
export function formatAgo(iso: string, now: Date): string {
  const seconds = Math.round((new Date(iso).getTime() - now.getTime()) / 1000);
  const relative = new Intl.RelativeTimeFormat(LOCALE, { numeric: "auto" });
  for (const [unit, size] of UNITS) {
    if (Math.abs(seconds) >= size) return relative.format(Math.trunc(seconds / size), unit);
  }
  return seconds > 0 ? "in a moment" : "just now";
}

/** Return the local midnight at the start of an `<input type="date">` day, `daysLater` days later; null: invalid. */
export function startOfDay(day: string, daysLater = 0): string | null {
  const match = /^(\d{4})-(\d{2})-(\d{2})$/.exec(day);
  if (match === null) return null;
  const [year, month, date] = match.slice(1).map(Number) as [number, number, number];
  const midnight = new Date(year, month - 1, date + daysLater);
  return Number.isNaN(midnight.getTime()) ? null : midnight.toISOString();
}

/** Return a time as the local value of `<input type="datetime-local">`. */
export function toLocalInput(iso: string): string {
  const at = new Date(iso);
  return new Date(at.getTime() - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

/** Parse the value of `<input type="datetime-local">`; null: empty or invalid. */
export function fromLocalInput(value: string): string | null {
  const at = new Date(value);
  return value === "" || Number.isNaN(at.getTime()) ? null : at.toISOString();
}

/** "24 hours", "90 minutes", "1 hour": in the largest unit that divides the duration. */
export function durationOf(seconds: number): string {
  for (const [size, unit] of [[3600, "hour"], [60, "minute"]] as const) {
    if (seconds >= size && seconds % size === 0) return formatCount(seconds / size, unit);
  }
  return formatCount(seconds, "second");
}
