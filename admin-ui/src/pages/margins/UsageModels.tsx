import { api, bodyOf } from "../../api/client";
import type { UsageSum } from "../../api/models";
import { Tag } from "../../components/Tag";
import { formatShare } from "../../logic/decimals";
import { ReportTable } from "../../reports/ReportTable";
import { count } from "../../reports/usage";
import { useReport } from "../../reports/useReport";
import { amountColumn } from "../usage/amounts";
import { meterName } from "../usage/labels";

const MOST = 200;

/** Margins of metered usage by model, from the events. */
export function UsageModels() {
  const { data, ...state } = useReport(["margins", "usage"], (query, signal) =>
    bodyOf(
      api.GET("/admin/usage/sums", {
        params: { query: { ...query, group_by: ["meter", "provider", "model"], order: "cost", limit: MOST } },
        signal,
      }),
    ),
  );
  return (
    <ReportTable
      title="Metered usage by model"
      note="Revenue is the money that usage events cost their users. A correction was charged later, or given back if it is negative, because events were priced again. Provider cost is their cost at list prices, without markup. The margin includes corrections, and leaves out events whose cost the caller stated and that have no list price."
      rows={data?.sums}
      rowKey={({ group, currency }) => [...Object.values(group), currency].join(" ")}
      columns={[
        { name: "Model", cell: (row) => <Model row={row} />, csv: nameOf },
        { name: "Provider", cell: ({ group }) => group.provider || "—", csv: ({ group }) => group.provider ?? "", from: "md" },
        { name: "Currency", cell: ({ currency }) => currency, csv: ({ currency }) => currency, exportOnly: true },
        { ...count<UsageSum>("Events", ({ events }) => events), from: "sm" },
        amountColumn<UsageSum>("Revenue", ({ cost }) => cost),
        { ...amountColumn<UsageSum>("Correction", ({ correction }) => correction), from: "lg" },
        { ...amountColumn<UsageSum>("Provider cost", ({ provider_cost }) => provider_cost), from: "xs" },
        amountColumn<UsageSum>("Margin", ({ margin }) => margin),
        { name: "Share", numeric: true, cell: ({ margin, cost }) => formatShare(margin, cost) ?? "—", from: "md" },
        { ...count<UsageSum>("Events without list price", ({ without_provider_cost }) => without_provider_cost), from: "lg" },
      ]}
      {...state}
      empty={["No metered usage", "Agents and routers report usage events to /v1/usage."]}
    />
  );
}

function nameOf({ group }: UsageSum): string {
  return group.model || meterName(group.meter ?? "");
}

function Model({ row }: { row: UsageSum }) {
  return (
    <span style={{ display: "block", minWidth: 110, overflowWrap: "anywhere" }}>
      {nameOf(row)} {row.margin.startsWith("-") && <Tag tone="bad">Loss</Tag>}
    </span>
  );
}
