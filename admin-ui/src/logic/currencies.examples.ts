/** Example currencies for tests: with 0, 2 and 3 digits, with steps and minimums. */
import type { Currency } from "../api/models";

function currency(code: string, digits: number, step_minor: number, minimum_minor: number): Currency {
  return { code, digits, step_minor, minimum_minor };
}

export const EXAMPLES: Currency[] = [
  currency("USD", 2, 1, 50),
  currency("HUF", 2, 1, 17_500),
  currency("IDR", 2, 1, 50),
  currency("ISK", 2, 100, 100),
  currency("JPY", 0, 1, 50),
  currency("MGA", 0, 1, 1),
  currency("KWD", 3, 10, 10),
];
