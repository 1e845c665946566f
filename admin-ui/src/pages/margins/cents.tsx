import type { ReportColumn } from "../../reports/ReportTable";
import { formatCents, formatDecimal, formatRoundedCents, plainUnits } from "../../logic/decimals";

/** Additional digits for amounts below the currency's minor unit, such as the cost of one interaction. */
const FINE = 4;

interface Props {
  cents: string | null;
  currency: string;
  fine?: boolean;
}

/** A rounded amount, with all digits on hover. */
export function Cents({ cents, currency, fine = false }: Props) {
  if (cents === null) return "—";
  return <span title={formatCents(cents, currency)}>{formatRoundedCents(cents, currency, fine ? FINE : 0)}</span>;
}

export function centsColumn<Row>(
  name: string,
  centsOf: (row: Row) => string | null,
  currencyOf: (row: Row) => string,
  fine = false,
): ReportColumn<Row> {
  return {
    name,
    numeric: true,
    cell: (row) => <Cents cents={centsOf(row)} currency={currencyOf(row)} fine={fine} />,
    csv: (row) => {
      const cents = centsOf(row);
      return cents === null ? null : plainUnits(cents, currencyOf(row));
    },
  };
}

/** A column of paid credits. They are fractional: an interaction with several models is split. */
export function paidColumn<Row extends { paid_spent: string }>(): ReportColumn<Row> {
  return {
    name: "Paid credits",
    numeric: true,
    cell: ({ paid_spent }) => <span title={paid_spent}>{formatDecimal(paid_spent)}</span>,
    csv: ({ paid_spent }) => paid_spent,
  };
}
