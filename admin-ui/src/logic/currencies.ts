/** The payment provider's currencies, loaded from the API before any amount is shown. */
import type { Currency } from "../api/models";

let table = new Map<string, Currency>();

export function setCurrencies(currencies: Currency[]): void {
  table = new Map(currencies.map((currency) => [currency.code, currency]));
}

export function isSupported(code: string): boolean {
  return table.has(code.toUpperCase());
}

/** Return a currency's digits and limits. Unsupported currencies, which old purchases can have, get two digits. */
export function currencyInfo(code: string): Currency {
  const known = table.get(code.toUpperCase());
  return known ?? { code: code.toUpperCase(), digits: 2, step_minor: 1, minimum_minor: 1 };
}
