import { Text } from "@mantine/core";
import { useInfiniteQuery } from "@tanstack/react-query";

import { api, bodyOf } from "../../api/client";
import type { PriceChange } from "../../api/models";
import { type Column } from "../../components/DataTable";
import { EmptyState } from "../../components/EmptyState";
import { LoadMore } from "../../components/LoadMore";
import { QueryTable } from "../../components/QueryTable";
import { Section } from "../../components/Section";
import { Tag } from "../../components/Tag";
import { formatCount, formatNumber } from "../../logic/format";
import { fieldName, KINDS, SECTIONS } from "./labels";

/** The changes that a version makes, compared with the version in force, price by price. */
export function Difference({ version }: { version: number }) {
  const query = useInfiniteQuery({
    queryKey: ["price-book", version, "difference"],
    initialPageParam: 0,
    queryFn: ({ pageParam, signal }) =>
      bodyOf(
        api.GET("/admin/price-books/{version}/difference", {
          params: { path: { version }, query: { cursor: pageParam, limit: 50 } },
          signal,
        }),
      ),
    getNextPageParam: (last) => last.next_cursor,
  });
  const { data, error, refetch } = query;
  const first = data?.pages[0];
  const own = first?.before === version;
  return (
    <Section title="Changes">
      <Text size="sm" mb="xs" aria-live="polite">
        {first === undefined ? "Comparing…" : own ? "This version is in force." : summaryOf(first)}
      </Text>
      {!own && (
        <>
          <QueryTable
            error={error}
            onRetry={() => void refetch()}
            label="Changes"
            columns={COLUMNS}
            rows={data?.pages.flatMap(({ changes }) => changes)}
            rowKey={({ section, row, field, kind }) => [section, row, field, kind].join(" ")}
            empty={<EmptyState title="No changes">Both versions have the same prices.</EmptyState>}
            wide
          />
          <LoadMore query={query} />
        </>
      )}
    </Section>
  );
}

interface Compared {
  before: number | null;
  added: number;
  removed: number;
  changed: number;
}

function summaryOf({ before, added, removed, changed }: Compared): string {
  const counts = `${formatCount(added, "row")} added, ${formatNumber(removed)} removed, ${formatCount(changed, "value")} changed`;
  return before === null ? `No version is in force: ${counts}.` : `Compared with version ${String(before)}, which is in force: ${counts}.`;
}

const ANYWHERE = { overflowWrap: "anywhere" } as const;

const COLUMNS: Column<PriceChange>[] = [
  { name: "Change", cell: ({ kind }) => <Tag tone={KINDS[kind].tone}>{KINDS[kind].label}</Tag> },
  { name: "Part", cell: ({ section }) => SECTIONS[section] ?? fieldName(section), from: "md" },
  { name: "Row", cell: ({ row }) => <span style={ANYWHERE}>{row || "—"}</span> },
  { name: "Field", cell: ({ field }) => (field === "" ? "—" : fieldName(field)) },
  { name: "Before", cell: ({ before }) => <span style={ANYWHERE}>{before ?? "—"}</span>, from: "xs" },
  { name: "After", cell: ({ after }) => <b style={ANYWHERE}>{after ?? "—"}</b> },
];
