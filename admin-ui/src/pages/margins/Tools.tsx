
import { api, bodyOf } from "../../api/client";
import type { MarginTool } from "../../api/models";
import { humanize } from "../../logic/format";
import { ReportTable } from "../../reports/ReportTable";
import { count } from "../../reports/usage";
import { useReport } from "../../reports/useReport";
import { centsColumn } from "./cents";

export function Tools() {
  const { data, ...state } = useReport(["margins", "tools"], (query, signal) =>
    bodyOf(api.GET("/admin/analytics/margin/tools", { params: { query }, signal })),
  );
  return (
    <ReportTable
      title="By tool"
      note="Tool revenue comes from paid credits of the main pool. Credits in a tool's own pools are granted, not sold. The cost of tools is not reported, so they have no margin."
      rows={data?.tools}
      rowKey={({ product_type, currency }) => `${product_type} ${currency}`}
      columns={[
        { name: "Tool", cell: ({ product_type }) => humanize(product_type), csv: ({ product_type }) => product_type },
        { name: "Account currency", cell: ({ currency }) => currency, csv: ({ currency }) => currency, from: "lg" },
        count<MarginTool>("Uses", ({ uses }) => uses),
        { ...count<MarginTool>("Free", ({ product_free }) => product_free), from: "sm" },
        { ...count<MarginTool>("Granted", ({ product_paid }) => product_paid), from: "md" },
        { ...count<MarginTool>("Paid credits", ({ paid_spent }) => paid_spent), from: "sm" },
        centsColumn<MarginTool>("Revenue", ({ revenue_cents }) => revenue_cents, ({ currency }) => currency),
      ]}
      {...state}
      empty={["No tool uses", "No tools were used in this period."]}
    />
  );
}
