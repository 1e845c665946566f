import type { Day, Sales, Usage } from "../api/models";
import { plainUnits } from "../logic/decimals";
import { formatMoney, formatNumber } from "../logic/format";
import { formatDay, isToday } from "../logic/ranges";
import type { ReportColumn } from "./ReportTable";
import type { Series } from "./series";

export function spentOf({ spent }: Pick<Usage, "spent">): number {
  return spent.daily_free + spent.grants + spent.free + spent.paid;
}

/** Columns for uses and the pools that paid for them. */
export function usageColumns<Row extends Usage>(): ReportColumn<Row>[] {
  return [
    count("Uses", (row) => row.uses),
    { ...count<Row>("Daily free", (row) => row.spent.daily_free), from: "md" },
    { ...count<Row>("Grants", (row) => row.spent.grants), from: "sm" },
    { ...count<Row>("Free", (row) => row.spent.free), from: "sm" },
    count("Paid", (row) => row.spent.paid),
    { ...count<Row>("Product free", (row) => row.product_free), from: "lg" },
    { ...count<Row>("Product paid", (row) => row.product_paid), from: "lg" },
  ];
}

export function count<Row>(name: string, valueOf: (row: Row) => number): ReportColumn<Row> {
  return { name, numeric: true, cell: (row) => formatNumber(valueOf(row)), csv: valueOf };
}

export const dayColumn: ReportColumn<{ day: string }> = {
  name: "Day",
  cell: ({ day }) => (isToday(day) ? `${formatDay(day)}, so far` : formatDay(day)),
  csv: ({ day }) => day,
};

export function countSeries<Row>(name: string, color: string, valueOf: (row: Row) => number): Series<Row> {
  return { name, color, valueOf, textOf: (row) => formatNumber(valueOf(row)) };
}

/** Return the distinct currencies of the sales. */
export function currenciesOf(rows: { sales: Sales[] }[]): string[] {
  return [...new Set(rows.flatMap(({ sales }) => sales.map(({ currency }) => currency)))].sort();
}

export function salesIn(sales: Sales[], currency: string): Sales {
  const none = { currency, sales: 0, received_minor: 0, refunded_minor: 0, disputed_minor: 0, net_minor: 0 };
  return sales.find((one) => one.currency === currency) ?? none;
}

const MONEY_COLORS = ["teal.6", "orange.6", "grape.6", "cyan.6", "lime.6"];

/** Return the color of a currency's series, by its place among the currencies. */
export function moneyColor(index: number): string {
  return MONEY_COLORS[index % MONEY_COLORS.length] ?? "gray.6";
}

export function salesSeries(currencies: string[]): Series<Day>[] {
  return currencies.map((currency, index) => ({
    name: currency,
    color: moneyColor(index),
    valueOf: ({ sales }) => Number(plainUnits(String(salesIn(sales, currency).net_minor), currency)),
    textOf: ({ sales }) => formatMoney(salesIn(sales, currency).net_minor, currency),
  }));
}

export function salesColumns(currencies: string[]): ReportColumn<Day>[] {
  return currencies.map((currency) => ({
    name: `Net sales ${currency}`,
    numeric: true,
    cell: ({ sales }) => formatMoney(salesIn(sales, currency).net_minor, currency),
    csv: ({ sales }) => plainUnits(String(salesIn(sales, currency).net_minor), currency),
  }));
}
