/** Exact decimals, sent by the server as strings. They are shifted, grouped and rounded as text, never as floats. */
import { MINUS, minorDigits } from "./format";

const DECIMAL = /^(-?)(\d+)(?:\.(\d+))?$/;

/** Format minor units in the currency's unit with all fraction digits: "123.4567", "USD" is "1.234567 USD". */
export function formatCents(cents: string, currency: string): string {
  return `${grouped(shifted(cents, minorDigits(currency)), minorDigits(currency))} ${currency.toUpperCase()}`;
}

/**
 * The same, rounded half away from zero to the currency's digits plus `more`, with a fixed width so that columns align:
 * "123.5", "USD" is "1.24 USD".
 */
export function formatRoundedCents(cents: string, currency: string, more = 0): string {
  const digits = minorDigits(currency);
  return `${grouped(shifted(String(rounded(cents, more)), digits + more), digits + more)} ${currency.toUpperCase()}`;
}

/** Format an amount in the major unit with all fraction digits: "1.234567", "USD" is "1.234567 USD". */
export function formatAmount(amount: string, currency: string): string {
  return `${grouped(amount, minorDigits(currency))} ${currency.toUpperCase()}`;
}

/** The same, rounded half away from zero to the currency's digits plus `more`, with a fixed width. */
export function formatRoundedAmount(amount: string, currency: string, more = 0): string {
  const places = minorDigits(currency) + more;
  return `${grouped(shifted(String(rounded(amount, places)), places), places)} ${currency.toUpperCase()}`;
}

/** Format with all digits and without trailing zeros: "1234.50" is "1,234.5". */
export function formatExact(decimal: string): string {
  return grouped(decimal, 0);
}

export function isZero(decimal: string): boolean {
  return /^-?0+(\.0+)?$/.test(decimal);
}

/** Round to two decimal places, without trailing zeros: "1234.50" is "1,234.5". */
export function formatDecimal(decimal: string): string {
  return grouped(shifted(String(rounded(decimal, 2)), 2), 0);
}

/** Format for spreadsheets, in the currency's unit: "123.4567", "USD" is "1.234567". */
export function plainUnits(cents: string, currency: string): string {
  const { minus, whole, fraction } = partsOf(shifted(cents, minorDigits(currency)));
  const kept = fraction.replace(/0+$/, "");
  return `${minus}${whole}${kept === "" ? "" : `.${kept}`}`;
}

/** Return a share in percent with one decimal place; null when the whole is 0: "12.3 %". */
export function formatShare(part: string | number, whole: string | number): string | null {
  const [of, all] = [Number(part), Number(whole)];
  return all === 0 ? null : percent(of / all);
}

/** Return the relative change: "+12.5 %", "−3 %"; "new" when it was 0 before, null when unchanged. */
export function formatGrowth(now: string | number, before: string | number): string | null {
  const [is, was] = [Number(now), Number(before)];
  if (is === was) return null;
  if (was === 0) return "new";
  const growth = (is - was) / Math.abs(was);
  return growth > 0 ? `+${percent(growth)}` : percent(growth);
}

function percent(share: number): string {
  const digits = new Intl.NumberFormat("en-GB", { maximumFractionDigits: Math.abs(share) < 10 ? 1 : 0 });
  return `${digits.format(share * 100).replace("-", MINUS)} %`;
}

function partsOf(decimal: string): { minus: string; whole: string; fraction: string } {
  const match = DECIMAL.exec(decimal);
  if (match === null) throw new Error(`not a decimal: ${decimal}`);
  const [, minus = "", whole = "", fraction = ""] = match;
  return { minus, whole, fraction };
}

/** Move the decimal point to the left. */
function shifted(decimal: string, places: number): string {
  const { minus, whole, fraction } = partsOf(decimal);
  const digits = whole.padStart(places + 1, "0");
  const at = digits.length - places;
  return `${minus}${digits.slice(0, at).replace(/^0+(?=\d)/, "")}.${digits.slice(at)}${fraction}`.replace(/\.$/, "");
}

/** Round to `places` decimal places; the result is in units of the last place. */
function rounded(decimal: string, places: number): bigint {
  const { minus, whole, fraction } = partsOf(decimal);
  const up = fraction.charAt(places) >= "5" ? 1n : 0n;
  const size = BigInt(whole + fraction.slice(0, places).padEnd(places, "0")) + up;
  return minus === "" ? size : -size;
}

function grouped(decimal: string, leastDigits: number): string {
  const { minus, whole, fraction } = partsOf(decimal);
  const kept = fraction.replace(/0+$/, "").padEnd(leastDigits, "0");
  const thousands = whole.replaceAll(/\B(?=(\d{3})+$)/g, ",");
  return `${minus === "" ? "" : MINUS}${thousands}${kept === "" ? "" : `.${kept}`}`;
}
