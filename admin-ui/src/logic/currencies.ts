/** The provider's currencies, as the API serves them. Set once, before any amount is shown. */
import type { Currency } from "../api/models";

let table = new Map<string, Currency>();

export function setCurrencies(currencies: Currency[]): void {
  table = new Map(currencies.map((currency) => [currency.code, currency]));
}

export function isCharged(code: string): boolean {
  return table.has(code.toUpperCase());
}

/** One that the provider does not charge has two digits: old purchases may be in it. */
export function currencyInfo(code: string): Currency {
  const known = table.get(code.toUpperCase());
  return known ?? { code: code.toUpperCase(), digits: 2, step_minor: 1, minimum_minor: 1 };
}
