import { Anchor, Button, Center, Text } from "@mantine/core";
import { useInfiniteQuery } from "@tanstack/react-query";
import { Fragment, useState } from "react";
import { Link } from "react-router";

import { api, bodyOf } from "../../api/client";
import type { Job } from "../../api/models";
import { ActionDialog } from "../../components/ActionDialog";
import { DataTable, type Column } from "../../components/DataTable";
import { EmptyState } from "../../components/EmptyState";
import { ErrorAlert } from "../../components/ErrorAlert";
import { RoleButton } from "../../components/RoleButton";
import { Section } from "../../components/Section";
import { Timestamp } from "../../components/Timestamp";
import { formatNumber, humanize } from "../../logic/format";
import { pageOf } from "../audit/labels";

const FIRST: number | null = null;

/** What the worker has given up. It stays until somebody retries it. */
export function FailedJobs({ everyMs }: { everyMs: number }) {
  const [retrying, setRetrying] = useState<Job | null>(null);
  const { data, error, refetch, hasNextPage, fetchNextPage, isFetchingNextPage } = useInfiniteQuery({
    queryKey: ["jobs", "failed"],
    initialPageParam: FIRST,
    queryFn: ({ pageParam, signal }) =>
      bodyOf(api.GET("/admin/system/jobs", { params: { query: { cursor: pageParam, limit: 20 } }, signal })),
    getNextPageParam: (last) => last.next_cursor,
    refetchInterval: everyMs,
  });
  const columns: Column<Job>[] = [
    ...COLUMNS,
    {
      name: "Retry",
      hiddenName: true,
      numeric: true,
      cell: (job) => (
        <RoleButton needs="admin" size="xs" onClick={() => setRetrying(job)}>
          Retry
        </RoleButton>
      ),
    },
  ];
  return (
    <Section title="Failed jobs">
      {error ? (
        <ErrorAlert error={error} onRetry={() => void refetch()} />
      ) : (
        <DataTable
          label="Failed jobs"
          columns={columns}
          rows={data?.pages.flatMap((page) => page.jobs)}
          rowKey={(job) => String(job.job_id)}
          empty={<EmptyState title="No job has failed">A job that the worker has given up stays here.</EmptyState>}
        />
      )}
      {hasNextPage && (
        <Center mt="md">
          <Button variant="default" size="xs" loading={isFetchingNextPage} onClick={() => void fetchNextPage()}>
            Load more
          </Button>
        </Center>
      )}
      {retrying !== null && <RetryDialog job={retrying} onClose={() => setRetrying(null)} />}
    </Section>
  );
}

const COLUMNS: Column<Job>[] = [
  { name: "Job", cell: (job) => <JobCell job={job} /> },
  { name: "Attempts", cell: (job) => formatNumber(job.attempts), numeric: true, from: "sm" },
  { name: "Failed", cell: (job) => <Timestamp at={job.changed_at} ago /> },
  { name: "Begun", cell: (job) => <Timestamp at={job.created_at} />, from: "md" },
];

function JobCell({ job }: { job: Job }) {
  const args = Object.entries(job.args);
  return (
    <div style={{ overflowWrap: "anywhere" }}>
      <Text size="sm" fw={600}>
        {humanize(job.task)} <Text span size="xs" c="dimmed">#{job.job_id}</Text>
      </Text>
      <Text size="xs" c="dimmed">
        {args.map(([name, value], index) => (
          <Fragment key={name}>
            {index > 0 && ", "}
            {name}: <Argument name={name} value={String(value)} />
          </Fragment>
        ))}
      </Text>
    </div>
  );
}

/** An id leads to the page of what it stands for. */
function Argument({ name, value }: { name: string; value: string }) {
  const page = pageOf(name.replace(/_id$/, ""), value);
  if (page === null) return value;
  return (
    <Anchor component={Link} inherit underline="always" to={page}>
      {value}
    </Anchor>
  );
}

function RetryDialog({ job, onClose }: { job: Job; onClose: () => void }) {
  return (
    <ActionDialog
      title="Retry the job"
      confirmLabel="Retry now"
      onClose={onClose}
      act={async () => {
        await api.POST("/admin/system/jobs/{job_id}/retry", { params: { path: { job_id: job.job_id } } });
      }}
      done={() => `Job ${job.job_id} waits for the worker`}
    >
      <Text size="sm">
        “{humanize(job.task)}” runs once more, as soon as the worker has a moment. Every job may run twice without harm.
        Why it failed stands in the worker's log, under job {job.job_id}.
      </Text>
    </ActionDialog>
  );
}
