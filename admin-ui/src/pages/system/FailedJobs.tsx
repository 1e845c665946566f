import { Anchor, Text } from "@mantine/core";
import { useInfiniteQuery } from "@tanstack/react-query";
import { Fragment, useState } from "react";
import { Link } from "react-router";

import { api, bodyOf } from "../../api/client";
import type { Job } from "../../api/models";
import { ActionDialog } from "../../components/ActionDialog";
import { type Column } from "../../components/DataTable";
import { EmptyState } from "../../components/EmptyState";
import { LoadMore } from "../../components/LoadMore";
import { QueryTable } from "../../components/QueryTable";
import { RoleButton } from "../../components/RoleButton";
import { Section } from "../../components/Section";
import { Timestamp } from "../../components/Timestamp";
import { formatNumber, humanize } from "../../logic/format";
import { pageOf } from "../audit/labels";

const FIRST: number | null = null;

/** Jobs that the worker gave up on. They are kept until an admin retries them. */
export function FailedJobs({ everyMs }: { everyMs: number }) {
  const [retrying, setRetrying] = useState<Job | null>(null);
  const query = useInfiniteQuery({
    queryKey: ["jobs", "failed"],
    initialPageParam: FIRST,
    queryFn: ({ pageParam, signal }) =>
      bodyOf(api.GET("/admin/system/jobs", { params: { query: { cursor: pageParam, limit: 20 } }, signal })),
    getNextPageParam: (last) => last.next_cursor,
    refetchInterval: everyMs,
  });
  const { data, error, refetch } = query;
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
      <QueryTable
        error={error}
        onRetry={() => void refetch()}
        label="Failed jobs"
        columns={columns}
        rows={data?.pages.flatMap((page) => page.jobs)}
        rowKey={(job) => String(job.job_id)}
        empty={<EmptyState title="No failed jobs">Jobs are listed here when the worker stops retrying them.</EmptyState>}
      />
      <LoadMore query={query} />
      {retrying !== null && <RetryDialog job={retrying} onClose={() => setRetrying(null)} />}
    </Section>
  );
}

const COLUMNS: Column<Job>[] = [
  { name: "Job", cell: (job) => <JobCell job={job} /> },
  { name: "Attempts", cell: (job) => formatNumber(job.attempts), numeric: true, from: "sm" },
  { name: "Failed", cell: (job) => <Timestamp at={job.changed_at} ago /> },
  { name: "Created", cell: (job) => <Timestamp at={job.created_at} />, from: "md" },
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

/** A job argument; an id links to its page. */
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
      title="Retry job"
      confirmLabel="Retry"
      onClose={onClose}
      act={async () => {
        await api.POST("/admin/system/jobs/{job_id}/retry", { params: { path: { job_id: job.job_id } } });
      }}
      done={() => `Job ${job.job_id} queued`}
    >
      <Text size="sm">
        Runs “{humanize(job.task)}” again when the worker is free. Running a job twice is safe. For the cause of the failure,
        see job {job.job_id} in the worker's log.
      </Text>
    </ActionDialog>
  );
}
