/** The form of the display rates: the typed rows, and the document that they parse to. */
import type { DisplayRate } from "../api/models";
import type { Errors, Parsed } from "./configuration";
import { formatLocal, fromLocalInput, toLocalInput } from "./dates";

export interface RateRow {
  id: number;
  base: string;
  quote: string;
  rate: string;
  /** The typed local time. */
  asOf: string;
  /** The stored time, which has seconds: kept while the typed time is unchanged. */
  stored: string | null;
  source: string;
}

export interface RatesDocument {
  rates: DisplayRate[];
}

const CURRENCY = /^[A-Z]{3}$/;
const RATE = /^\d{1,9}(\.\d{1,9})?$/;
const ZERO = /^[0.]+$/;

export function rateRows({ rates }: RatesDocument): RateRow[] {
  return rates.map(({ base, quote, rate, as_of, source }, id) => {
    return { id, base, quote, rate, asOf: toLocalInput(as_of), stored: as_of, source };
  });
}

export function parseRates(rows: RateRow[]): Parsed<RatesDocument> {
  const errors: Errors = {};
  const rates = rows.map((row, index) => {
    const asOf = timeOf(row);
    const source = row.source.trim();
    for (const field of ["base", "quote"] as const) {
      if (!CURRENCY.test(row[field])) errors[`${index}.${field}`] = "Enter three letters, such as USD";
    }
    if (rows.findIndex(({ base, quote }) => base === row.base && quote === row.quote) < index) {
      errors[`${index}.quote`] = "This pair already has a rate";
    }
    if (!RATE.test(row.rate) || ZERO.test(row.rate)) errors[`${index}.rate`] = "Enter a number above 0, such as 41.52";
    if (asOf === null) errors[`${index}.asOf`] = "Enter the time of the rate";
    if (source === "") errors[`${index}.source`] = "Enter the source, such as NBU";
    return { base: row.base, quote: row.quote, rate: row.rate, as_of: asOf ?? "", source };
  });
  return Object.keys(errors).length === 0 ? { document: { rates }, errors: null } : { document: null, errors };
}

function timeOf({ asOf, stored }: RateRow): string | null {
  return stored !== null && toLocalInput(stored) === asOf ? stored : fromLocalInput(asOf);
}

/** "1 USD is 41.52 UAH (NBU, 1 Dec 2026, 00:00)" */
export function rateSentence({ base, quote, rate, as_of, source }: DisplayRate, timeZone?: string): string {
  return `1 ${base} is ${rate} ${quote} (${source}, ${formatLocal(as_of, timeZone)})`;
}
