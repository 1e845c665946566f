import { Code } from "@mantine/core";

import { api, bodyOf } from "../../api/client";
import type { ModelUsage } from "../../api/models";
import { Page } from "../../components/Page";
import { formatCents, formatRoundedCents, plainUnits } from "../../logic/decimals";
import { humanize } from "../../logic/format";
import { RangeBar } from "../../reports/RangeBar";
import { ReportTable } from "../../reports/ReportTable";
import { usageColumns, count } from "../../reports/usage";
import { useReport } from "../../reports/useReport";
import { Cohorts } from "./Cohorts";
import { Daily } from "./Daily";
import { MeteredUsage } from "./MeteredUsage";
import { TopUsers } from "./TopUsers";

const NO_USE: [string, string] = ["No usage", "No charges or tool uses in this period. Try other days or the other environment."];

export function AnalyticsPage() {
  return (
    <Page title="Analytics" subtitle="Usage by day, product, agent, model, API key and user. Exact and up to date.">
      <RangeBar />
      <Daily />
      <Products />
      <Agents />
      <Models />
      <Keys />
      <MeteredUsage />
      <TopUsers />
      <Cohorts />
    </Page>
  );
}

function Products() {
  const { data, ...state } = useReport(["analytics", "products"], (query, signal) =>
    bodyOf(api.GET("/admin/analytics/products", { params: { query }, signal })),
  );
  const name = (product: string | null) => (product === null ? "Interactions" : humanize(product));
  return (
    <ReportTable
      title="By product"
      rows={data?.products}
      rowKey={({ product_type }) => product_type ?? ""}
      columns={[
        { name: "Product", cell: ({ product_type }) => name(product_type), csv: ({ product_type }) => name(product_type) },
        ...usageColumns(),
      ]}
      {...state}
      empty={NO_USE}
    />
  );
}

function Agents() {
  const { data, ...state } = useReport(["analytics", "agents"], (query, signal) =>
    bodyOf(api.GET("/admin/analytics/agents", { params: { query }, signal })),
  );
  return (
    <ReportTable
      title="By agent"
      note="From the metadata of the charges."
      rows={data?.agents}
      rowKey={({ agent_id }) => agent_id ?? ""}
      columns={[
        { name: "Agent", cell: ({ agent_id }) => <Named id={agent_id} none="Unknown" />, csv: ({ agent_id }) => agent_id },
        ...usageColumns(),
      ]}
      {...state}
      empty={NO_USE}
    />
  );
}

function Models() {
  const { data, ...state } = useReport(["analytics", "models"], (query, signal) =>
    bodyOf(api.GET("/admin/analytics/models", { params: { query }, signal })),
  );
  return (
    <ReportTable
      title="By model"
      note="Reported by LLM proxies, on the day of an interaction's first report. An interaction with several models counts once for each; its cost is split among them."
      rows={data?.models}
      rowKey={({ model }) => model ?? ""}
      columns={[
        { name: "Model", cell: ({ model }) => <Named id={model} none="Unknown" />, csv: ({ model }) => model },
        count<ModelUsage>("Interactions", ({ interactions }) => interactions),
        { ...count<ModelUsage>("LLM calls", ({ llm_calls }) => llm_calls), from: "sm" },
        { ...count<ModelUsage>("Prompt tokens", ({ prompt_tokens }) => prompt_tokens), from: "md" },
        { ...count<ModelUsage>("Completion tokens", ({ completion_tokens }) => completion_tokens), from: "md" },
        {
          name: "Cost",
          numeric: true,
          cell: ({ cost_cents }) => <span title={formatCents(cost_cents, "USD")}>{formatRoundedCents(cost_cents, "USD")}</span>,
          csv: ({ cost_cents }) => plainUnits(cost_cents, "USD"),
        },
      ]}
      {...state}
      empty={["No LLM usage", "LLM proxies report usage to /v1/billing/litellm/usage."]}
    />
  );
}

function Keys() {
  const { data, ...state } = useReport(["analytics", "keys"], (query, signal) =>
    bodyOf(api.GET("/admin/analytics/keys", { params: { query }, signal })),
  );
  const none = "User tokens";
  return (
    <ReportTable
      title="By API key"
      rows={data?.keys}
      rowKey={({ key_id }) => key_id ?? ""}
      columns={[
        { name: "Key", cell: ({ key_id, name }) => name ?? <Named id={key_id} none={none} />, csv: ({ name, key_id }) => name ?? key_id ?? none },
        {
          name: "Public id",
          from: "lg",
          cell: ({ key_id }) => (key_id === null ? "—" : <Code>{key_id}</Code>),
          csv: ({ key_id }) => key_id,
        },
        ...usageColumns(),
      ]}
      {...state}
      empty={NO_USE}
    />
  );
}

function Named({ id, none }: { id: string | null; none: string }) {
  return <span style={{ overflowWrap: "anywhere" }}>{id === null || id === "" ? none : id}</span>;
}
