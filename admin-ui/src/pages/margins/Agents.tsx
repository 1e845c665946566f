import { keepPreviousData, useQuery } from "@tanstack/react-query";

import { api, bodyOf } from "../../api/client";
import type { MarginAgent } from "../../api/models";
import { ReportTable } from "../../reports/ReportTable";
import { count } from "../../reports/usage";
import { useRange } from "../../reports/useRange";
import { centsColumn, paidColumn } from "./cents";

export function Agents() {
  const { query } = useRange();
  const { data, error, refetch, isPlaceholderData } = useQuery({
    queryKey: ["margins", "agents", query],
    queryFn: ({ signal }) => bodyOf(api.GET("/admin/analytics/margin/agents", { params: { query }, signal })),
    placeholderData: keepPreviousData,
  });
  return (
    <ReportTable
      title="By agent"
      note="As the charges' metadata names it. The LLM cost is that of the interactions that the agent's charges name; cost without a charge is under “Not named”."
      rows={data?.agents}
      rowKey={({ agent_id, currency }) => `${agent_id} ${currency}`}
      columns={[
        {
          name: "Agent",
          cell: ({ agent_id }) => <span style={{ overflowWrap: "anywhere" }}>{agent_id ?? "Not named"}</span>,
          csv: ({ agent_id }) => agent_id,
        },
        { name: "Accounts in", cell: ({ currency }) => currency, csv: ({ currency }) => currency, from: "lg" },
        { ...count<MarginAgent>("Uses", ({ uses }) => uses), from: "md" },
        { ...paidColumn<MarginAgent>(), from: "md" },
        centsColumn<MarginAgent>("Revenue", ({ revenue_cents }) => revenue_cents, ({ currency }) => currency),
        centsColumn<MarginAgent>("LLM cost", ({ cost_cents }) => cost_cents, () => "USD"),
        centsColumn<MarginAgent>("Margin", ({ margin_cents }) => margin_cents, ({ currency }) => currency),
      ]}
      busy={isPlaceholderData}
      error={error}
      onRetry={() => void refetch()}
      empty={["Nothing was charged", "No charge and no LLM cost in these days."]}
    />
  );
}
