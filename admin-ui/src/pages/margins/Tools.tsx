import { keepPreviousData, useQuery } from "@tanstack/react-query";

import { api, bodyOf } from "../../api/client";
import type { MarginTool } from "../../api/models";
import { humanize } from "../../logic/format";
import { ReportTable } from "../../reports/ReportTable";
import { count } from "../../reports/usage";
import { useRange } from "../../reports/useRange";
import { centsColumn } from "./cents";

export function Tools() {
  const { query } = useRange();
  const { data, error, refetch, isPlaceholderData } = useQuery({
    queryKey: ["margins", "tools", query],
    queryFn: ({ signal }) => bodyOf(api.GET("/admin/analytics/margin/tools", { params: { query }, signal })),
    placeholderData: keepPreviousData,
  });
  return (
    <ReportTable
      title="By tool"
      note="A tool earns the main pool's paid credits that it costs. Its own credits are given, not sold. What tools cost is not reported, so they have no margin."
      rows={data?.tools}
      rowKey={({ product_type, currency }) => `${product_type} ${currency}`}
      columns={[
        { name: "Tool", cell: ({ product_type }) => humanize(product_type), csv: ({ product_type }) => product_type },
        { name: "Accounts in", cell: ({ currency }) => currency, csv: ({ currency }) => currency, from: "lg" },
        count<MarginTool>("Uses", ({ uses }) => uses),
        { ...count<MarginTool>("Free", ({ product_free }) => product_free), from: "sm" },
        { ...count<MarginTool>("Given", ({ product_paid }) => product_paid), from: "md" },
        { ...count<MarginTool>("Paid credits", ({ paid_spent }) => paid_spent), from: "sm" },
        centsColumn<MarginTool>("Revenue", ({ revenue_cents }) => revenue_cents, ({ currency }) => currency),
      ]}
      busy={isPlaceholderData}
      error={error}
      onRetry={() => void refetch()}
      empty={["No tool was used", "No tool use in these days."]}
    />
  );
}
