import { formatAmount, formatExact } from "../../logic/decimals";
import { className, perOf } from "./labels";
import { DataTable } from "../../components/DataTable";

export interface PriceLine {
  kind: string;
  row: string;
  item: string;
  quantity: string;
  unit_price: string;
  per: number;
  amount: string;
}

/** The parts of a price, exact. They sum to the cost. */
export function PriceLines({ lines, currency }: { lines: PriceLine[]; currency: string }) {
  return (
    <DataTable
      label="Price breakdown"
      rows={lines.map((line, index) => ({ ...line, index }))}
      rowKey={({ index }) => String(index)}
      empty={null}
      wide
      columns={[
        { name: "Item", cell: ({ item }) => className(item) },
        { name: "Row or rule", cell: ({ row }) => <span style={{ overflowWrap: "anywhere" }}>{row}</span>, from: "sm" },
        { name: "Quantity", numeric: true, cell: (line) => (line.kind === "usage" ? formatExact(line.quantity) : "") },
        {
          name: "Unit price",
          numeric: true,
          from: "xs",
          cell: (line) => (line.kind === "usage" ? `${formatExact(line.unit_price)} ${perOf(line.per)}` : ""),
        },
        { name: "Amount", numeric: true, cell: ({ amount }) => formatAmount(amount, currency) },
      ]}
    />
  );
}
