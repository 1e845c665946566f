import { Text } from "@mantine/core";
import { useInfiniteQuery } from "@tanstack/react-query";

import { api, bodyOf } from "../../api/client";
import type { Environment, PlanVersion } from "../../api/models";
import { type Column } from "../../components/DataTable";
import { EmptyState } from "../../components/EmptyState";
import { LoadMore } from "../../components/LoadMore";
import { QueryTable } from "../../components/QueryTable";
import { Section } from "../../components/Section";
import { Timestamp } from "../../components/Timestamp";
import { formatNumber } from "../../logic/format";
import { planSentence } from "../../logic/plans";

/** The versions of the configuration that changed a plan. */
export function PlanVersions({ name, environment }: { name: string; environment: Environment }) {
  const query = useInfiniteQuery({
    queryKey: ["plan-versions", name, environment],
    initialPageParam: null as number | null,
    queryFn: ({ pageParam, signal }) =>
      bodyOf(
        api.GET("/admin/plans/{name}", { params: { path: { name }, query: { environment, cursor: pageParam } }, signal }),
      ),
    getNextPageParam: (last) => last.next_cursor,
  });
  const { data, error, refetch } = query;
  return (
    <Section title="Versions">
      <QueryTable
        error={error}
        onRetry={() => void refetch()}
        label="Versions"
        columns={COLUMNS}
        rows={data?.pages.flatMap(({ versions }) => versions)}
        rowKey={({ version }) => String(version)}
        empty={<EmptyState title="As shipped">No admin has changed this plan.</EmptyState>}
      />
      <LoadMore query={query} />
    </Section>
  );
}

const COLUMNS: Column<PlanVersion>[] = [
  { name: "Version", cell: ({ version }) => formatNumber(version), numeric: true },
  {
    name: "Terms",
    cell: ({ plan, reason }) => (
      <>
        <Text size="sm" style={{ overflowWrap: "anywhere" }}>
          {planSentence(plan)}
        </Text>
        <Text size="xs" c="dimmed" style={{ overflowWrap: "anywhere" }}>
          {reason}
        </Text>
      </>
    ),
  },
  { name: "Subscribers", cell: ({ subscribers }) => formatNumber(subscribers), numeric: true, from: "sm" },
  { name: "Changed by", cell: ({ changed_by }) => <span style={{ overflowWrap: "anywhere" }}>{changed_by}</span>, from: "md" },
  { name: "Changed", cell: ({ changed_at }) => <Timestamp at={changed_at} />, from: "sm" },
];
