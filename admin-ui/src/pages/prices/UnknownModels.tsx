import { SegmentedControl, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";

import { api, bodyOf } from "../../api/client";
import type { UnknownModel } from "../../api/models";
import { type Column } from "../../components/DataTable";
import { EmptyState } from "../../components/EmptyState";
import { useFilters } from "../../components/Filters";
import { QueryTable } from "../../components/QueryTable";
import { Section } from "../../components/Section";
import { Tag } from "../../components/Tag";
import { Timestamp } from "../../components/Timestamp";
import { formatNumber } from "../../logic/format";
import { OUTCOMES, reasonOf } from "./labels";

const SHOWN = [
  { value: "open", label: "Without a price" },
  { value: "all", label: "All" },
];

/** The models that usage named and no price book priced. */
export function UnknownModels() {
  const { get, set } = useFilters();
  const shown = get("show") === "all" ? "all" : "open";
  const { data, error, refetch } = useQuery({
    queryKey: ["unknown-models"],
    queryFn: ({ signal }) => bodyOf(api.GET("/admin/unknown-models", { params: { query: { limit: 1000 } }, signal })),
  });
  return (
    <Section
      title="Unknown models"
      aside={
        <SegmentedControl
          size="xs"
          aria-label="Models"
          data={SHOWN}
          value={shown}
          onChange={(value) => set("show", value === "open" ? null : value)}
        />
      }
    >
      <Text size="xs" c="dimmed" mb="xs">
        Models that usage named and no price book priced, the last seen first. Compared with the USD price book in force.
      </Text>
      <QueryTable
        error={error}
        onRetry={() => void refetch()}
        label="Unknown models"
        columns={COLUMNS}
        rows={data?.models.filter(({ priced_now }) => shown === "all" || !priced_now)}
        rowKey={({ provider, model }) => `${provider} ${model}`}
        empty={<EmptyState title="No unknown models">Every model that usage names has a price.</EmptyState>}
      />
    </Section>
  );
}

const COLUMNS: Column<UnknownModel>[] = [
  { name: "Provider", cell: ({ provider }) => provider || "Empty name" },
  { name: "Model", cell: ({ model }) => <span style={{ overflowWrap: "anywhere" }}>{model || "Empty name"}</span> },
  {
    name: "Now",
    cell: ({ priced_now }) => <Tag tone={priced_now ? "good" : "bad"}>{priced_now ? "Priced" : "No price"}</Tag>,
  },
  { name: "Reason", cell: ({ reason, missing }) => (missing === null ? reasonOf(reason) : `${reasonOf(reason)}: ${missing}`), from: "md" },
  { name: "Last outcome", cell: ({ outcome }) => OUTCOMES[outcome], from: "lg" },
  { name: "Events", cell: ({ events }) => formatNumber(events), numeric: true, from: "sm" },
  { name: "Last seen", cell: ({ last_seen_at }) => <Timestamp at={last_seen_at} ago />, from: "sm" },
];
