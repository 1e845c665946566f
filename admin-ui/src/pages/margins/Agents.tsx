
import { api, bodyOf } from "../../api/client";
import type { MarginAgent } from "../../api/models";
import { ReportTable } from "../../reports/ReportTable";
import { count } from "../../reports/usage";
import { useReport } from "../../reports/useReport";
import { paidColumn, centsColumn } from "./cents";

export function Agents() {
  const { data, ...state } = useReport(["margins", "agents"], (query, signal) =>
    bodyOf(api.GET("/admin/analytics/margin/agents", { params: { query }, signal })),
  );
  return (
    <ReportTable
      title="By agent"
      note="From the metadata of the charges. LLM cost is the cost of the interactions that the agent's charges reference; cost without a charge is listed under “Unknown”."
      rows={data?.agents}
      rowKey={({ agent_id, currency }) => `${agent_id} ${currency}`}
      columns={[
        {
          name: "Agent",
          cell: ({ agent_id }) => <span style={{ overflowWrap: "anywhere" }}>{agent_id ?? "Unknown"}</span>,
          csv: ({ agent_id }) => agent_id,
        },
        { name: "Account currency", cell: ({ currency }) => currency, csv: ({ currency }) => currency, from: "lg" },
        { ...count<MarginAgent>("Uses", ({ uses }) => uses), from: "md" },
        { ...paidColumn<MarginAgent>(), from: "md" },
        centsColumn<MarginAgent>("Revenue", ({ revenue_cents }) => revenue_cents, ({ currency }) => currency),
        centsColumn<MarginAgent>("LLM cost", ({ cost_cents }) => cost_cents, () => "USD"),
        centsColumn<MarginAgent>("Margin", ({ margin_cents }) => margin_cents, ({ currency }) => currency),
      ]}
      {...state}
      empty={["No charges", "No charges or LLM cost in this period."]}
    />
  );
}
