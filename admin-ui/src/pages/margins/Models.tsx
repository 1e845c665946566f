import { keepPreviousData, useQuery } from "@tanstack/react-query";

import { api, bodyOf } from "../../api/client";
import type { MarginModel } from "../../api/models";
import { ReportTable } from "../../reports/ReportTable";
import { count } from "../../reports/usage";
import { useRange } from "../../reports/useRange";
import { centsColumn } from "./cents";

export function Models() {
  const { query } = useRange();
  const { data, error, refetch, isPlaceholderData } = useQuery({
    queryKey: ["margins", "models", query],
    queryFn: ({ signal }) => bodyOf(api.GET("/admin/analytics/margin/models", { params: { query }, signal })),
    placeholderData: keepPreviousData,
  });
  return (
    <ReportTable
      title="Cost by model"
      note="Models that one interaction used together stand together. Cost is in US dollars, whatever the account's currency."
      rows={data?.models}
      rowKey={({ model, currency }) => `${model} ${currency}`}
      columns={[
        { name: "Model", cell: ({ model }) => <span style={{ overflowWrap: "anywhere" }}>{model}</span>, csv: ({ model }) => model },
        { name: "Accounts in", cell: ({ currency }) => currency, csv: ({ currency }) => currency, from: "sm" },
        { ...count<MarginModel>("Interactions", ({ interactions }) => interactions), from: "sm" },
        { ...count<MarginModel>("LLM calls", ({ llm_calls }) => llm_calls), from: "md" },
        centsColumn<MarginModel>("Cost", ({ cost_cents }) => cost_cents, () => "USD"),
        centsColumn<MarginModel>("Per interaction", ({ cost_per_interaction_cents }) => cost_per_interaction_cents, () => "USD", true),
      ]}
      busy={isPlaceholderData}
      error={error}
      onRetry={() => void refetch()}
      empty={["No LLM calls were reported", "They come from LLM proxies that post to /v1/billing/litellm/usage."]}
    />
  );
}
