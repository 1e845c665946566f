import { Text } from "@mantine/core";
import { keepPreviousData, useQuery } from "@tanstack/react-query";

import { api, bodyOf } from "../../api/client";
import type { MarginModel } from "../../api/models";
import { Tag } from "../../components/Tag";
import { formatRoundedCents } from "../../logic/decimals";
import { lossesOf } from "../../logic/margins";
import { ReportTable } from "../../reports/ReportTable";
import { count } from "../../reports/usage";
import { useRange } from "../../reports/useRange";
import { centsColumn, paidColumn } from "./cents";

/** Which model costs more than it earns. */
export function Models() {
  const { query } = useRange();
  const { data, error, refetch, isPlaceholderData } = useQuery({
    queryKey: ["margins", "models", query],
    queryFn: ({ signal }) => bodyOf(api.GET("/admin/analytics/margin/models", { params: { query }, signal })),
    placeholderData: keepPreviousData,
  });
  return (
    <ReportTable
      title="By model"
      note="Revenue is that of the charges that name an interaction. An interaction of several models is split by what each cost, and counts once under each. LLM cost is in US dollars."
      lead={data && data.models.length > 0 && <Losses models={data.models} />}
      rows={data?.models}
      rowKey={({ model, currency }) => `${model} ${currency}`}
      columns={[
        { name: "Model", cell: (row) => <Model row={row} />, csv: ({ model }) => model ?? NO_MODEL },
        { name: "Accounts in", cell: ({ currency }) => currency, csv: ({ currency }) => currency, from: "lg" },
        { ...count<MarginModel>("Interactions", ({ interactions }) => interactions), from: "md" },
        { ...count<MarginModel>("LLM calls", ({ llm_calls }) => llm_calls), exportOnly: true },
        { ...paidColumn<MarginModel>(), from: "md" },
        { ...centsColumn<MarginModel>("Revenue", ({ revenue_cents }) => revenue_cents, ({ currency }) => currency), from: "xs" },
        centsColumn<MarginModel>("LLM cost", ({ cost_cents }) => cost_cents, () => "USD"),
        centsColumn<MarginModel>("Margin", ({ margin_cents }) => margin_cents, ({ currency }) => currency),
        {
          ...centsColumn<MarginModel>("Cost per interaction", (row) => row.cost_per_interaction_cents, () => "USD", true),
          from: "lg",
        },
      ]}
      busy={isPlaceholderData}
      error={error}
      onRetry={() => void refetch()}
      empty={["No LLM calls were reported", "They come from LLM proxies that post to /v1/billing/litellm/usage."]}
    />
  );
}

const NO_MODEL = "No usage reported";

function Model({ row }: { row: MarginModel }) {
  const name = row.model === null ? NO_MODEL : row.model === "" ? "Not named" : row.model;
  return (
    <span style={{ display: "block", minWidth: 110, overflowWrap: "anywhere" }}>
      {name} {lossesOf([row]).length > 0 && <Tag tone="bad">Loss</Tag>}
    </span>
  );
}

function Losses({ models }: { models: MarginModel[] }) {
  const losses = lossesOf(models);
  if (losses.length === 0) return <Text size="sm" mb="xs">No model costs more than it earns.</Text>;
  return (
    <Text size="sm" mb="xs">
      {losses.length === 1 ? "This model costs more than it earns: " : "These models cost more than they earn: "}
      {losses.map((row, index) => (
        <span key={row.model}>
          {index > 0 && ", "}
          <b>{row.model}</b> ({formatRoundedCents(row.margin_cents ?? "0", row.currency)})
        </span>
      ))}
      .
    </Text>
  );
}
