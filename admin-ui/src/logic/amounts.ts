/** Typed amounts of money in the currency's major unit, exact to a billionth: "12.5" is 12,500,000,000 nanos. */
import { formatNumber } from "./format";

const AMOUNT = /^(\d+)(?:\.(\d{1,9}))?$/;
const DECIMALS = 9;
/** The largest whole number that JavaScript represents exactly. */
const MOST = BigInt(Number.MAX_SAFE_INTEGER);

/** Both `value` and `problem` are null when the text is empty. */
export type Amount = { value: number; problem: null } | { value: null; problem: string | null };

export function readAmount(text: string): Amount {
  if (text === "") return { value: null, problem: null };
  const match = AMOUNT.exec(text);
  if (match === null) return { value: null, problem: problemOf(text) };
  const [, whole = "", fraction = ""] = match;
  const nanos = BigInt(whole + fraction.padEnd(DECIMALS, "0"));
  if (nanos > MOST) return { value: null, problem: `At most ${formatNumber(Number(MOST / 10n ** BigInt(DECIMALS)))}` };
  return { value: Number(nanos), problem: null };
}

/** Return the text that `readAmount` reads as this amount, with at least two decimals. */
export function amountText(nanos: number): string {
  const digits = String(nanos).padStart(DECIMALS + 1, "0");
  const fraction = digits.slice(-DECIMALS).replace(/0+$/, "").padEnd(2, "0");
  return `${digits.slice(0, -DECIMALS)}.${fraction}`;
}

function problemOf(text: string): string {
  if (/^\d+\.\d+$/.test(text)) return `At most ${String(DECIMALS)} decimals`;
  if (/^\d+,\d+$/.test(text)) return "Use a point for decimals, and no thousands separators";
  return "Enter an amount such as 12.50";
}
