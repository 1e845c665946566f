import { Anchor, Box, SegmentedControl } from "@mantine/core";
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
import { useReport } from "../../reports/useReport";
import { centsColumn } from "./cents";

const ORDERS = [
  { value: "cost" as const, label: "Highest cost" },
  { value: "newest" as const, label: "Newest" },
];
const PAGE = 25;

/** Interactions with their revenue, cost and margin. */
export function Interactions() {
  const { get, set } = useFilters();
  const order = oneOf(get("order"), ["cost", "newest"]) ?? "cost";
  const cursor = get("cursor");
  const { data, ...state } = useReport(["margins", "interactions", order, cursor ?? ""], (query, signal) =>
    bodyOf(
      api.GET("/admin/analytics/margin/interactions", {
        params: { query: { ...query, order, limit: PAGE, cursor } },
        signal,
      }),
    ),
  );
  return (
    <ReportTable
      title="Interactions"
      note="Revenue comes from charges whose idempotency key is the interaction id, or “charge:” and the id. The CSV file contains the rows of this page."
      rows={data?.interactions}
      rowKey={({ account_id, interaction_id }) => `${account_id} ${interaction_id}`}
      columns={COLUMNS}
      {...state}
      empty={["No interactions", "LLM proxies report usage to /v1/billing/litellm/usage."]}
      aside={<SegmentedControl size="xs" aria-label="Order" data={ORDERS} value={order} onChange={(value) => set("order", value)} />}
      paged
    >
      <Pager nextCursor={data?.next_cursor} labels={BY_PAGE} />
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
  { name: "Started", cell: ({ started_at }) => <Timestamp at={started_at} />, csv: ({ started_at }) => started_at, from: "md" },
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
