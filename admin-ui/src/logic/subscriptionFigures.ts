/** Monthly figures of subscriptions: labels of months, and the recurring revenue of a currency. */
import type { MonthFigures, RecurringRevenue } from "../api/models";

const NAMES = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/** "2026-11-01" is "Nov 2026"; short: "Nov". */
export function monthName(month: string, short = false): string {
  const [year = "", number = "1"] = month.split("-");
  const name = NAMES[Number(number) - 1] ?? number;
  return short ? name : `${name} ${year}`;
}

/** Return the currencies of the recurring revenue, in alphabetical order. */
export function revenueCurrencies(months: Pick<MonthFigures, "recurring">[]): string[] {
  return [...new Set(months.flatMap(({ recurring }) => recurring.map(({ currency }) => currency)))].sort();
}

/** Return a month's recurring revenue of a currency. */
export function recurringIn({ recurring }: Pick<MonthFigures, "recurring">, currency: string): RecurringRevenue {
  return recurring.find((one) => one.currency === currency) ?? { currency, amount_minor: 0, paying: 0 };
}

/** "2.5" is "2.5 %"; null: there is no share. */
export function percentText(percent: string | null): string {
  return percent === null ? "—" : `${percent} %`;
}
