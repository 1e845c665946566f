import { Alert, SimpleGrid, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useParams } from "react-router";

import { api, bodyOf } from "../../api/client";
import { ApiError } from "../../api/errors";
import type { RunCalls, RunReceipt } from "../../api/models";
import { BackLink } from "../../components/BackLink";
import { type Column, DataTable } from "../../components/DataTable";
import { DetailSkeleton } from "../../components/DetailSkeleton";
import { EmptyState } from "../../components/EmptyState";
import { ErrorAlert } from "../../components/ErrorAlert";
import { Facts } from "../../components/Facts";
import { Page } from "../../components/Page";
import { Section } from "../../components/Section";
import { Timestamp } from "../../components/Timestamp";
import { formatNumber } from "../../logic/format";
import { amountsText, callName, outcomeName, rowsOf, type TreeRow } from "../../logic/runs";
import { RunActions } from "./RunActions";
import { RunTag } from "./RunTag";
import { Spent } from "./RunsSection";

/** The receipt of a run: the run, the tree below it, and what each run of the tree did. */
export function RunPage() {
  const { accountId = "", runUuid = "" } = useParams();
  const path = { account_id: accountId, run_uuid: runUuid };
  const { data: run, error: runError, refetch: readRun } = useQuery({
    queryKey: ["run", accountId, runUuid],
    queryFn: ({ signal }) => bodyOf(api.GET("/admin/users/{account_id}/runs/{run_uuid}", { params: { path }, signal })),
  });
  const { data: user, error: userError, refetch: readUser } = useQuery({
    queryKey: ["user", accountId],
    queryFn: ({ signal }) => bodyOf(api.GET("/admin/users/{account_id}", { params: { path: { account_id: accountId } }, signal })),
    enabled: run !== undefined,
  });
  const error = runError ?? userError;
  const back = <BackLink to={`/users/${accountId}`}>The user</BackLink>;
  if (error instanceof ApiError && (error.status === 404 || error.status === 422)) {
    return (
      <Page title="Run not found" subtitle={back}>
        <EmptyState title="No run has this id">Check the address for typing errors.</EmptyState>
      </Page>
    );
  }
  if (error) return <ErrorAlert error={error} onRetry={() => void (runError ? readRun() : readUser())} />;
  if (run === undefined || user === undefined) return <DetailSkeleton label="Loading run" />;
  const { currency } = user;
  const tree = rowsOf(run);
  return (
    <Page
      title={run.run_id || "Erased run"}
      marks={<RunTag run={run} />}
      subtitle={back}
      actions={<RunActions accountId={accountId} runUuid={runUuid} run={run} currency={currency} />}
    >
      {!tree.every(({ receipt }) => receipt.is_complete) && (
        <Alert color="blue" variant="outline" title="Some calls or runs are not listed">
          <Text size="sm">A receipt lists up to 100 runs, with the newest calls of each. The spent amounts count all of them.</Text>
        </Alert>
      )}
      <SimpleGrid cols={{ base: 1, lg: 2 }} spacing="lg">
        <Section title="Run">
          <Facts
            facts={[
              ["Spent", <Spent key="spent" run={run} currency={currency} />],
              ["Uses", formatNumber(run.uses)],
              ["Parent run", run.parent_run_id],
              ["Depth", formatNumber(run.depth)],
              ["Started", <Timestamp key="started" at={run.created_at} exact />],
              ["Last use", <Timestamp key="used" at={run.updated_at} exact />],
              ["Closed", run.closed_at === null ? null : <Timestamp key="closed" at={run.closed_at} exact />],
            ]}
          />
        </Section>
        <Section title="Runs below it">
          <DataTable
            label="Runs below it"
            columns={treeColumns(currency)}
            rows={tree.slice(1)}
            rowKey={({ receipt, level }) => `${String(level)} ${receipt.run_id} ${receipt.created_at}`}
            empty={<EmptyState title="No runs below it">A sub-agent registers its own run with this one as its parent.</EmptyState>}
          />
        </Section>
      </SimpleGrid>
      {tree.filter(({ receipt }, index) => index === 0 || receipt.calls.length > 0).map(({ receipt }) => (
        <CallsOf key={`${receipt.run_id} ${receipt.created_at}`} receipt={receipt} currency={currency} />
      ))}
    </Page>
  );
}

function treeColumns(currency: string): Column<TreeRow>[] {
  return [
    {
      name: "Run",
      cell: ({ receipt, level }) => (
        <Text size="sm" pl={(level - 1) * 16} style={{ overflowWrap: "anywhere" }}>
          {receipt.run_id || "Erased run"}
        </Text>
      ),
    },
    { name: "Status", cell: ({ receipt }) => <RunTag run={receipt} /> },
    { name: "Spent", cell: ({ receipt }) => <Spent run={receipt} currency={currency} />, from: "xs" },
    { name: "Uses", numeric: true, cell: ({ receipt }) => formatNumber(receipt.uses), from: "sm" },
  ];
}

function CallsOf({ receipt, currency }: { receipt: RunReceipt; currency: string }) {
  const columns: Column<RunCalls>[] = [
    { name: "Call", cell: (calls) => <Text size="sm" style={{ overflowWrap: "anywhere" }}>{callName(calls)}</Text> },
    { name: "Outcome", cell: outcomeName, from: "xs" },
    { name: "Calls", numeric: true, cell: ({ calls }) => formatNumber(calls) },
    { name: "Spent", numeric: true, cell: ({ spent }) => amountsText(spent, currency) },
    { name: "Returned", numeric: true, cell: ({ returned }) => amountsText(returned, currency), from: "sm" },
  ];
  const title = `Calls of ${receipt.run_id || "the erased run"}`;
  return (
    <Section title={title}>
      <DataTable
        label={title}
        columns={columns}
        rows={receipt.calls}
        rowKey={(calls) => `${callName(calls)} ${calls.outcome}`}
        empty={<EmptyState title="No calls">The run itself has spent nothing.</EmptyState>}
      />
    </Section>
  );
}
