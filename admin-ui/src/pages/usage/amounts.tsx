import { formatAmount, formatRoundedAmount } from "../../logic/decimals";
import type { ReportColumn } from "../../reports/ReportTable";

/** Digits beyond the currency's minor unit in tables. */
const FINE = 4;

/** A rounded amount, with all digits on hover. */
export function Amount({ amount, currency }: { amount: string; currency: string }) {
  return <span title={formatAmount(amount, currency)}>{formatRoundedAmount(amount, currency, FINE)}</span>;
}

/** A column of amounts of money; the file has all digits. */
export function amountColumn<Row extends { currency: string }>(name: string, amountOf: (row: Row) => string): ReportColumn<Row> {
  return {
    name,
    numeric: true,
    cell: (row) => <Amount amount={amountOf(row)} currency={row.currency} />,
    csv: amountOf,
  };
}
