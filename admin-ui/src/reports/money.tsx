import type { Day, Money } from "../api/models";
import { formatAmount, formatRoundedAmount } from "../logic/decimals";
import { moneyIn } from "../logic/money";
import type { ReportColumn } from "./ReportTable";
import type { Series } from "./series";
import { moneyColor } from "./usage";

/** Digits beyond the currency's minor unit in tables. */
const FINE = 4;
const AMOUNTS: [keyof Money & ("cost" | "provider_cost" | "purchased" | "granted" | "ended" | "debt"), string, ReportColumn<Day>["from"]][] = [
  ["cost", "Charged", undefined],
  ["provider_cost", "List prices", "lg"],
  ["purchased", "Purchased", "sm"],
  ["granted", "Granted", "md"],
  ["ended", "Expired or ended", "lg"],
  ["debt", "Became debt", "md"],
];

/** Return the charged usage of each currency, on the day of the events. */
export function usageCostSeries(currencies: string[]): Series<Day>[] {
  return currencies.map((currency, index) => ({
    name: currency,
    color: moneyColor(index),
    valueOf: ({ money }) => Number(moneyIn(money, currency).cost),
    textOf: ({ money }) => formatAmount(moneyIn(money, currency).cost, currency),
  }));
}

/** Return the columns of money of each currency. The file has all digits. */
export function moneyColumns(currencies: string[]): ReportColumn<Day>[] {
  return currencies.flatMap((currency) =>
    AMOUNTS.map(([name, title, from]) => ({
      name: `${title} ${currency}`,
      numeric: true,
      ...(from === undefined ? {} : { from }),
      cell: ({ money }: Day) => {
        const amount = moneyIn(money, currency)[name];
        return <span title={formatAmount(amount, currency)}>{formatRoundedAmount(amount, currency, FINE)}</span>;
      },
      csv: ({ money }: Day) => moneyIn(money, currency)[name],
    })),
  );
}
