import { MINUS } from "./format";

const whole = new Intl.NumberFormat("en-GB", { maximumFractionDigits: 2 });
const small = new Intl.NumberFormat("en-GB", { maximumSignificantDigits: 3 });
const compact = new Intl.NumberFormat("en-GB", { notation: "compact", maximumFractionDigits: 3 });
const LONGEST = 100_000;

/** Format an axis tick without rounding it to another number: 0.0045, 1050 is "1,050", 157500 is "157.5K". */
export function formatTick(value: number): string {
  const size = Math.abs(value);
  return (size < 1 ? small : size < LONGEST ? whole : compact).format(value).replace("-", MINUS);
}
