/** The form of the burn rate: the typed amounts per minute, and the document that they parse to. */
import type { BurnRateDocument } from "../api/models";
import type { Errors, Parsed } from "./configuration";
import { readWhole } from "./numbers";

export interface MoneyRow {
  id: number;
  currency: string;
  amount: string;
}

export interface BurnRateDraft {
  /** Empty: any number. */
  credits: string;
  money: MoneyRow[];
}

export const CREDITS_PER_MINUTE = { least: 1, most: 1_000_000_000, optional: true } as const;
const CURRENCY = /^[A-Z]{3}$/;
const AMOUNT = /^\d{1,9}(\.\d{1,9})?$/;
const ZERO = /^[0.]+$/;

export function burnRateDraft({ credits_per_minute, money_per_minute }: BurnRateDocument): BurnRateDraft {
  return {
    credits: credits_per_minute === null ? "" : String(credits_per_minute),
    money: money_per_minute.map(({ currency, amount }, id) => ({ id, currency, amount })),
  };
}

export function parseBurnRate({ credits, money }: BurnRateDraft): Parsed<BurnRateDocument> {
  const errors: Errors = {};
  const { value, problem } = readWhole(credits, CREDITS_PER_MINUTE);
  if (problem !== null) errors["credits"] = problem;
  money.forEach((row, index) => {
    if (!CURRENCY.test(row.currency)) errors[`${index}.currency`] = "Enter three letters, such as USD";
    if (money.findIndex(({ currency }) => currency === row.currency) < index) {
      errors[`${index}.currency`] = "This currency already has an amount";
    }
    if (!AMOUNT.test(row.amount) || ZERO.test(row.amount)) errors[`${index}.amount`] = "Enter a number above 0, such as 5.00";
  });
  if (Object.keys(errors).length > 0) return { document: null, errors };
  const money_per_minute = money.map(({ currency, amount }) => ({ currency, amount }));
  return { document: { credits_per_minute: value, money_per_minute }, errors: null };
}
