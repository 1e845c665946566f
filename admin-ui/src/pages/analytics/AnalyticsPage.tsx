import { Code } from "@mantine/core";
import { keepPreviousData, useQuery } from "@tanstack/react-query";

import { api, bodyOf } from "../../api/client";
import type { ModelUsage } from "../../api/models";
import { Page } from "../../components/Page";
import { formatCents, formatRoundedCents, plainUnits } from "../../logic/decimals";
import { humanize } from "../../logic/format";
import { RangeBar } from "../../reports/RangeBar";
import { ReportTable } from "../../reports/ReportTable";
import { count, usageColumns } from "../../reports/usage";
import { useRange } from "../../reports/useRange";
import { Cohorts } from "./Cohorts";
import { Daily } from "./Daily";
import { TopUsers } from "./TopUsers";

const NO_USE: [string, string] = [
  "Nothing was used",
  "No charge and no tool use in these days. Other days, or the other environment, may have some.",
];

export function AnalyticsPage() {
  return (
    <Page title="Analytics" subtitle="How much is used, of what, through whom and by whom. Exact, up to this moment.">
      <RangeBar />
      <Daily />
      <Products />
      <Agents />
      <Models />
      <Keys />
      <TopUsers />
      <Cohorts />
    </Page>
  );
}

function Products() {
  const { query } = useRange();
  const { data, error, refetch, isPlaceholderData } = useQuery({
    queryKey: ["analytics", "products", query],
    queryFn: ({ signal }) => bodyOf(api.GET("/admin/analytics/products", { params: { query }, signal })),
    placeholderData: keepPreviousData,
  });
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
      busy={isPlaceholderData}
      error={error}
      onRetry={() => void refetch()}
      empty={NO_USE}
    />
  );
}

function Agents() {
  const { query } = useRange();
  const { data, error, refetch, isPlaceholderData } = useQuery({
    queryKey: ["analytics", "agents", query],
    queryFn: ({ signal }) => bodyOf(api.GET("/admin/analytics/agents", { params: { query }, signal })),
    placeholderData: keepPreviousData,
  });
  return (
    <ReportTable
      title="By agent"
      note="As the metadata of the charges names it."
      rows={data?.agents}
      rowKey={({ agent_id }) => agent_id ?? ""}
      columns={[
        { name: "Agent", cell: ({ agent_id }) => <Named id={agent_id} none="Not named" />, csv: ({ agent_id }) => agent_id },
        ...usageColumns(),
      ]}
      busy={isPlaceholderData}
      error={error}
      onRetry={() => void refetch()}
      empty={NO_USE}
    />
  );
}

function Models() {
  const { query } = useRange();
  const { data, error, refetch, isPlaceholderData } = useQuery({
    queryKey: ["analytics", "models", query],
    queryFn: ({ signal }) => bodyOf(api.GET("/admin/analytics/models", { params: { query }, signal })),
    placeholderData: keepPreviousData,
  });
  return (
    <ReportTable
      title="By model"
      note="As the LLM proxies report it, on the day of an interaction's first report. The cost of an interaction of several models is split among them; it counts once under each."
      rows={data?.models}
      rowKey={({ model }) => model ?? ""}
      columns={[
        { name: "Model", cell: ({ model }) => <Named id={model} none="Not named" />, csv: ({ model }) => model },
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
      busy={isPlaceholderData}
      error={error}
      onRetry={() => void refetch()}
      empty={["No LLM calls were reported", "They come from LLM proxies that post to /v1/billing/litellm/usage."]}
    />
  );
}

function Keys() {
  const { query } = useRange();
  const { data, error, refetch, isPlaceholderData } = useQuery({
    queryKey: ["analytics", "keys", query],
    queryFn: ({ signal }) => bodyOf(api.GET("/admin/analytics/keys", { params: { query }, signal })),
    placeholderData: keepPreviousData,
  });
  const none = "By users themselves";
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
      busy={isPlaceholderData}
      error={error}
      onRetry={() => void refetch()}
      empty={NO_USE}
    />
  );
}

function Named({ id, none }: { id: string | null; none: string }) {
  return <span style={{ overflowWrap: "anywhere" }}>{id === null || id === "" ? none : id}</span>;
}
