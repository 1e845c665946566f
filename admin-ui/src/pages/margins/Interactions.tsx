import { Anchor, Box, SegmentedControl } from "@mantine/core";
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { Link } from "react-router";

import { api, bodyOf } from "../../api/client";
import type { InteractionMargin } from "../../api/models";
import { useFilters } from "../../components/Filters";
import { BY_PAGE, Pager } from "../../components/Pager";
import { Timestamp } from "../../components/Timestamp";
import { oneOf, pathWith } from "../../logic/filters";
import { formatNumber, shortId } from "../../logic/format";
import { ReportTable, type ReportColumn } from "../../reports/ReportTable";
import { count } from "../../reports/usage";
import { useRange } from "../../reports/useRange";
import { centsColumn } from "./cents";

const ORDERS = [
  { value: "cost" as const, label: "Dearest" },
  { value: "newest" as const, label: "Newest" },
];
const PAGE = 25;

/** Single interactions, each once, with what it brought and cost. */
export function Interactions() {
  const { query } = useRange();
  const { get, set } = useFilters();
  const order = oneOf(get("order"), ["cost", "newest"]) ?? "cost";
  const { data, error, refetch, isPlaceholderData } = useQuery({
    queryKey: ["margins", "interactions", query, order, get("cursor")],
    queryFn: ({ signal }) =>
      bodyOf(
        api.GET("/admin/analytics/margin/interactions", {
          params: { query: { ...query, order, limit: PAGE, cursor: get("cursor") } },
          signal,
        }),
      ),
    placeholderData: keepPreviousData,
  });
  return (
    <ReportTable
      title="Interactions"
      note="Revenue is that of the charges whose idempotency key is the interaction's id, or charge: and the id. The file has the rows of this page."
      rows={data?.interactions}
      rowKey={({ account_id, interaction_id }) => `${account_id} ${interaction_id}`}
      columns={COLUMNS}
      busy={isPlaceholderData}
      error={error}
      onRetry={() => void refetch()}
      empty={["No interactions were reported", "They come from LLM proxies that post to /v1/billing/litellm/usage."]}
      aside={<SegmentedControl size="xs" aria-label="Order" data={ORDERS} value={order} onChange={(value) => set("order", value)} />}
      paged
    >
      <Pager nextCursor={data?.next_cursor} words={BY_PAGE} />
    </ReportTable>
  );
}

const COLUMNS: ReportColumn<InteractionMargin>[] = [
  {
    name: "Interaction",
    cell: ({ interaction_id, account_id }) => (
      <Anchor component={Link} to={pathWith(`/users/${account_id}`, { interaction: interaction_id })} size="sm" className="numeric" title={interaction_id}>
        {shortId(interaction_id)}
      </Anchor>
    ),
    csv: ({ interaction_id }) => interaction_id,
  },
  { name: "Account", cell: () => null, csv: ({ account_id }) => account_id, exportOnly: true },
  { name: "Begun", cell: ({ started_at }) => <Timestamp at={started_at} />, csv: ({ started_at }) => started_at, from: "md" },
  { name: "Model", cell: ({ model }) => <Box miw={110} style={{ overflowWrap: "anywhere" }}>{model}</Box>, csv: ({ model }) => model, from: "sm" },
  { ...count("LLM calls", ({ llm_calls }) => llm_calls), from: "lg" },
  { ...count("Prompt tokens", ({ prompt_tokens }) => prompt_tokens), exportOnly: true },
  { ...count("Completion tokens", ({ completion_tokens }) => completion_tokens), exportOnly: true },
  {
    name: "Paid credits",
    numeric: true,
    from: "md",
    cell: ({ paid_spent }) => (paid_spent === null ? "No charge" : formatNumber(paid_spent)),
    csv: ({ paid_spent }) => paid_spent,
  },
  { ...centsColumn<InteractionMargin>("Revenue", (row) => row.revenue_cents, (row) => row.currency, true), from: "md" },
  centsColumn("Cost", (row) => row.cost_cents, () => "USD", true),
  centsColumn("Margin", (row) => row.margin_cents, (row) => row.currency, true),
];
