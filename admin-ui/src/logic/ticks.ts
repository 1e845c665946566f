import { MINUS } from "./format";

const whole = new Intl.NumberFormat("en-GB", { maximumFractionDigits: 2 });
const compact = new Intl.NumberFormat("en-GB", { notation: "compact", maximumFractionDigits: 3 });
const LONGEST = 100_000;

/** Format an axis tick without rounding it to another number: 1050 is "1,050", 157500 is "157.5K". */
export function formatTick(value: number): string {
  return (Math.abs(value) < LONGEST ? whole : compact).format(value).replace("-", MINUS);
}
