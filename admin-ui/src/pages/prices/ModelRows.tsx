import { Group, Select, Stack, Text } from "@mantine/core";
import { useInfiniteQuery } from "@tanstack/react-query";
import { useState } from "react";
import { useNavigate } from "react-router";

import { api, bodyOf } from "../../api/client";
import type { PriceRow, PriceRowsQuery } from "../../api/models";
import { type Column } from "../../components/DataTable";
import { EmptyState } from "../../components/EmptyState";
import { ChoiceFilter, ClearFilters, TextFilter, useFilters } from "../../components/Filters";
import { LoadMore } from "../../components/LoadMore";
import { QueryTable } from "../../components/QueryTable";
import { RoleButton } from "../../components/RoleButton";
import { Section } from "../../components/Section";
import { Tag } from "../../components/Tag";
import { Timestamp } from "../../components/Timestamp";
import { keysOf, oneOf } from "../../logic/filters";
import { formatCount, formatNumber } from "../../logic/format";
import { ConfirmDialog, type Choices } from "./ConfirmDialog";
import { pricesOf, providerName, STATUS_TONES, STATUSES } from "./labels";

/** The models of a version, and the decisions about its disputed rows. */
export function ModelRows({ version }: { version: number }) {
  const { get } = useFilters();
  const navigate = useNavigate();
  const [choices, setChoices] = useState<Choices>({});
  const [confirming, setConfirming] = useState(false);
  const filters: PriceRowsQuery = {
    status: oneOf(get("status"), keysOf(STATUSES)),
    provider: get("provider"),
    q: get("q"),
  };
  const query = useInfiniteQuery({
    queryKey: ["price-book", version, "rows", filters],
    initialPageParam: 0,
    queryFn: ({ pageParam, signal }) =>
      bodyOf(
        api.GET("/admin/price-books/{version}/rows", {
          params: { path: { version }, query: { ...filters, cursor: pageParam, limit: 50 } },
          signal,
        }),
      ),
    getNextPageParam: (last) => last.next_cursor,
  });
  const { data, error, refetch } = query;
  const chosen = Object.keys(choices).length;
  const decide = (row: string, source: string | null) =>
    setChoices((now) => {
      const others = Object.fromEntries(Object.entries(now).filter(([id]) => id !== row));
      return source === null ? others : { ...others, [row]: source };
    });
  return (
    <Section
      title="Models"
      aside={
        <RoleButton
          needs="admin"
          size="xs"
          blocked={chosen === 0 ? "Choose the right source of disputed rows first" : null}
          onClick={() => setConfirming(true)}
        >
          {chosen === 0 ? "Confirm rows" : `Confirm ${formatCount(chosen, "row")}`}
        </RoleButton>
      }
    >
      <Group component="search" gap="sm" align="flex-end" mb="sm">
        <ChoiceFilter name="status" label="Status" choices={STATUSES} width={150} />
        <TextFilter name="provider" label="Provider" placeholder="openai" width={160} narrow />
        <TextFilter name="q" label="Model" placeholder="Part of an id or alias" width={240} />
        <ClearFilters keep={["tab"]} />
      </Group>
      {data !== undefined && (
        <Text size="xs" c="dimmed" mb="xs">
          {formatNumber(data.pages[0]?.total ?? 0)} rows. Prices are per million tokens, in the major unit.
        </Text>
      )}
      <QueryTable
        error={error}
        onRetry={() => void refetch()}
        label="Models"
        columns={[...COLUMNS, { name: "Decision", cell: (row) => <Decision row={row} chosen={choices[row.id] ?? null} onChange={decide} /> }]}
        rows={data?.pages.flatMap(({ rows }) => rows)}
        rowKey={({ id }) => id}
        empty={<EmptyState title="No rows">No model matches the filters.</EmptyState>}
        wide
      />
      <LoadMore query={query} />
      {confirming && (
        <ConfirmDialog
          version={version}
          choices={choices}
          onClose={() => setConfirming(false)}
          onDone={(confirmed) => void navigate(`/price-books/${String(confirmed)}`)}
        />
      )}
    </Section>
  );
}

const COLUMNS: Column<PriceRow>[] = [
  { name: "Model", cell: (row) => <Model row={row} /> },
  { name: "Status", cell: ({ status }) => <Tag tone={STATUS_TONES[status]}>{STATUSES[status]}</Tag> },
  { name: "Prices", cell: (row) => <Prices row={row} /> },
];

function Model({ row }: { row: PriceRow }) {
  return (
    <Stack gap={0}>
      <Text size="sm" fw={600} style={{ overflowWrap: "anywhere" }}>
        {row.model || "Empty name"}
      </Text>
      <Text size="xs" c="dimmed" style={{ overflowWrap: "anywhere" }}>
        {providerName(row.provider)}
        {row.aliases.length > 0 && `, also ${row.aliases.join(", ")}`}
      </Text>
      {row.valid_from !== null && row.valid_from !== undefined && (
        <Text size="xs" c="dimmed">
          Valid from <Timestamp at={row.valid_from} />
        </Text>
      )}
    </Stack>
  );
}

/** The row's prices by source. A disputed row has several. */
function Prices({ row }: { row: PriceRow }) {
  return (
    <Stack gap={4}>
      <SourcePrices source={`${row.source} ${row.source_version}`} prices={row.prices} more={moreOf(row)} note={row.note} />
      {row.others.map((other) =>
        other.tariff === null || other.tariff === undefined ? null : (
          <SourcePrices
            key={other.source}
            source={`${other.source} ${other.source_version}`}
            prices={other.tariff.prices}
            more={moreOf(other.tariff)}
            note={other.note}
          />
        ),
      )}
    </Stack>
  );
}

interface SourceProps {
  source: string;
  prices: Record<string, string>;
  more: string;
  note: string;
}

function SourcePrices({ source, prices, more, note }: SourceProps) {
  return (
    <div>
      <Text size="xs" c="dimmed" style={{ overflowWrap: "anywhere" }}>
        {source}
      </Text>
      <Text size="sm">
        {pricesOf(prices)
          .map(([name, price]) => `${name} ${price}`)
          .join(", ")}
        {more}
      </Text>
      {note !== "" && (
        <Text size="xs" style={{ overflowWrap: "anywhere" }}>
          {note}
        </Text>
      )}
    </div>
  );
}

/** Return what a tariff has beside its first prices. */
function moreOf({ steps, modes, hours }: Pick<PriceRow, "steps" | "modes" | "hours">): string {
  const parts = [
    steps.length > 0 && formatCount(steps.length, "step"),
    Object.keys(modes).length > 0 && Object.keys(modes).join(" and "),
    hours.length > 0 && formatCount(hours.length, "time rule"),
  ].filter((part) => part !== false);
  return parts.length === 0 ? "" : ` (and ${parts.join(", ")})`;
}

interface DecisionProps {
  row: PriceRow;
  chosen: string | null;
  onChange: (row: string, source: string | null) => void;
}

/** The choice of the right source; only of disputed rows. */
function Decision({ row, chosen, onChange }: DecisionProps) {
  if (row.status !== "disputed") return null;
  const others = row.others.filter(({ tariff }) => tariff !== null && tariff !== undefined).map(({ source }) => source);
  return (
    <Select
      aria-label={`Right source of ${row.provider} ${row.model}`}
      placeholder="Right source"
      size="xs"
      miw={150}
      clearable
      clearButtonProps={{ "aria-label": `Clear the source of ${row.model}` }}
      data={[row.source, ...others]}
      value={chosen}
      onChange={(source) => onChange(row.id, source)}
    />
  );
}
