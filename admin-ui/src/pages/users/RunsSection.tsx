import { Anchor, Progress, Stack, Text } from "@mantine/core";
import { useInfiniteQuery } from "@tanstack/react-query";
import { Link } from "react-router";

import { api, bodyOf } from "../../api/client";
import type { Run, User } from "../../api/models";
import { type Column } from "../../components/DataTable";
import { EmptyState } from "../../components/EmptyState";
import { LoadMore } from "../../components/LoadMore";
import { QueryTable } from "../../components/QueryTable";
import { Section } from "../../components/Section";
import { Timestamp } from "../../components/Timestamp";
import { formatNumber } from "../../logic/format";
import { amountsText, budgetPercent } from "../../logic/runs";
import { PausedKeys } from "./PausedKeys";
import { RunTag } from "./RunTag";

/** The runs of an account, and the keys that the burn-rate brake has paused. */
export function RunsSection({ user }: { user: User }) {
  const query = useInfiniteQuery({
    queryKey: ["runs", user.account_id],
    initialPageParam: null as string | null,
    queryFn: ({ pageParam, signal }) =>
      bodyOf(
        api.GET("/admin/users/{account_id}/runs", {
          params: { path: { account_id: user.account_id }, query: { cursor: pageParam, limit: 20 } },
          signal,
        }),
      ),
    getNextPageParam: (last) => last.next_cursor,
  });
  const { data, error, refetch } = query;
  return (
    <Section title="Runs">
      <PausedKeys user={user} />
      <QueryTable
        error={error}
        onRetry={() => void refetch()}
        label="Runs"
        columns={columnsOf(user)}
        rows={data?.pages.flatMap(({ runs }) => runs)}
        rowKey={({ run_uuid }) => run_uuid}
        empty={<EmptyState title="No runs">Agents register a run to share one budget among all that works for a task.</EmptyState>}
      />
      <LoadMore query={query} />
    </Section>
  );
}

function columnsOf(user: User): Column<Run>[] {
  return [
    { name: "Run", cell: (run) => <Name run={run} accountId={user.account_id} /> },
    { name: "Status", cell: (run) => <RunTag run={run} /> },
    { name: "Spent", cell: (run) => <Spent run={run} currency={user.currency} />, from: "sm" },
    { name: "Uses", numeric: true, cell: ({ uses }) => formatNumber(uses), from: "md" },
    { name: "Last use", cell: ({ updated_at }) => <Timestamp at={updated_at} />, from: "lg" },
    { name: "Started", cell: ({ created_at }) => <Timestamp at={created_at} />, from: "lg" },
  ];
}

function Name({ run, accountId }: { run: Run; accountId: string }) {
  return (
    <Stack gap={0}>
      <Anchor component={Link} to={`/users/${accountId}/runs/${run.run_uuid}`} size="sm" underline="always" style={{ overflowWrap: "anywhere" }}>
        {run.run_id || "Erased run"}
      </Anchor>
      {run.parent_run_id !== null && (
        <Text size="xs" c="dimmed" style={{ overflowWrap: "anywhere" }}>
          below {run.parent_run_id}
        </Text>
      )}
    </Stack>
  );
}

export function Spent({ run, currency }: { run: Pick<Run, "budget" | "remaining" | "spent">; currency: string }) {
  const percent = budgetPercent(run);
  return (
    <Stack gap={4} miw={140}>
      {percent !== null && (
        <Progress
          value={percent}
          size="sm"
          color={percent >= 100 ? "red.8" : percent >= 80 ? "orange.8" : undefined}
          aria-label={`Budget used: ${percent.toFixed(0)} %`}
        />
      )}
      <Text size="xs" c="dimmed" className="numeric">
        {amountsText(run.spent, currency)}
        {run.budget !== null && ` of ${amountsText(run.budget, currency)}`}
      </Text>
    </Stack>
  );
}
