import { Text } from "@mantine/core";

import { api, bodyOf } from "../../api/client";
import type { MarginModel } from "../../api/models";
import { Tag } from "../../components/Tag";
import { formatRoundedCents } from "../../logic/decimals";
import { lossesOf } from "../../logic/margins";
import { ReportTable } from "../../reports/ReportTable";
import { count } from "../../reports/usage";
import { useReport } from "../../reports/useReport";
import { paidColumn, centsColumn } from "./cents";

/** Margins by model, with a summary of the models that make a loss. */
export function Models() {
  const { data, ...state } = useReport(["margins", "models"], (query, signal) =>
    bodyOf(api.GET("/admin/analytics/margin/models", { params: { query }, signal })),
  );
  return (
    <ReportTable
      title="By model"
      note="Revenue comes from charges that reference an interaction. An interaction with several models counts once for each; its revenue is split by cost. LLM cost is in USD."
      lead={data && data.models.length > 0 && <Losses models={data.models} />}
      rows={data?.models}
      rowKey={({ model, currency }) => `${model} ${currency}`}
      columns={[
        { name: "Model", cell: (row) => <Model row={row} />, csv: ({ model }) => model ?? NO_MODEL },
        { name: "Account currency", cell: ({ currency }) => currency, csv: ({ currency }) => currency, from: "lg" },
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
      {...state}
      empty={["No LLM usage", "LLM proxies report usage to /v1/billing/litellm/usage."]}
    />
  );
}

const NO_MODEL = "No usage reported";

function Model({ row }: { row: MarginModel }) {
  const name = row.model === null ? NO_MODEL : row.model === "" ? "Unknown" : row.model;
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
