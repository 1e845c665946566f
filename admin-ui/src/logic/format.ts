import { currencyInfo } from "./currencies";

const LOCALE = "en-GB";
export const MINUS = "\u2212";
const whole = new Intl.NumberFormat(LOCALE, { maximumFractionDigits: 0 });

export function formatNumber(value: number): string {
  return whole.format(value).replace("-", MINUS);
}

/** Format a change with its sign: "+20", "−3", "0". */
export function formatChange(value: number): string {
  return value > 0 ? `+${formatNumber(value)}` : formatNumber(value);
}

export function formatCredits(value: number): string {
  return formatCount(value, "credit");
}

/** "1 purchase", "2 purchases": for nouns with a regular plural. */
export function formatCount(value: number, one: string): string {
  return `${formatNumber(value)} ${Math.abs(value) === 1 ? one : `${one}s`}`;
}

/** Return the number of decimal digits that the payment provider uses for a currency: 2 for USD and HUF, 0 for JPY. */
export function minorDigits(currency: string): number {
  return currencyInfo(currency).digits;
}

/** Minor units with their currency: 1999, "usd" is "19.99 USD". */
export function formatMoney(minor: number, currency: string): string {
  const digits = minorDigits(currency);
  const number = new Intl.NumberFormat(LOCALE, { minimumFractionDigits: digits, maximumFractionDigits: digits });
  return `${number.format(minor / 10 ** digits).replace("-", MINUS)} ${currency.toUpperCase()}`;
}

/** Parse a typed amount, "19.99" or "19,99", into minor units; null: not an amount of that currency. */
export function parseMoney(text: string, currency: string): number | null {
  const digits = minorDigits(currency);
  const match = /^(\d{1,12})(?:[.,](\d+))?$/.exec(text.trim());
  if (match === null) return null;
  const [, units = "0", fraction = ""] = match;
  if (fraction.length > digits) return null;
  return Number(units) * 10 ** digits + Number(fraction.padEnd(digits, "0") || "0");
}

/** Format minor units for an input field: 1999, "usd" is "19.99". */
export function moneyInput(minor: number, currency: string): string {
  return (minor / 10 ** minorDigits(currency)).toFixed(minorDigits(currency));
}

/** Return the price per unit: "0.25 USD", with up to four more digits if needed; "about" marks a rounded price. */
export function formatRate(minor: number, count: number, currency: string): string {
  const digits = minorDigits(currency);
  const value = minor / 10 ** digits / count;
  const number = new Intl.NumberFormat(LOCALE, { minimumFractionDigits: digits, maximumFractionDigits: digits + 4 });
  const about = Number.isInteger((minor * 10_000) / count) ? "" : "about ";
  return `${about}${number.format(value)} ${currency.toUpperCase()}`;
}

/** "paid_not_credited" → "Paid not credited" */
export function humanize(name: string): string {
  const words = name.replaceAll(/[_.]+/g, " ").trim();
  return words.charAt(0).toUpperCase() + words.slice(1);
}

export function shortId(id: string): string {
  return id.length > 16 ? `${id.slice(0, 8)}…${id.slice(-4)}` : id;
}
