import { Alert, Anchor, SimpleGrid, Skeleton, Stack } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { Link } from "react-router";

import { api, bodyOf } from "../../api/client";
import type { System } from "../../api/models";
import { ErrorAlert } from "../../components/ErrorAlert";
import { Facts } from "../../components/Facts";
import { Page } from "../../components/Page";
import { Section } from "../../components/Section";
import { EnvironmentTag } from "../../components/states";
import { Tag } from "../../components/Tag";
import { Timestamp } from "../../components/Timestamp";
import { formatNumber } from "../../logic/format";
import { replicaState, workerState } from "../../logic/system";
import { FailedJobs } from "./FailedJobs";
import { Inbox } from "./Inbox";

const EVERY_MS = 15_000;

export function SystemPage() {
  const { data, error, refetch } = useQuery({
    queryKey: ["system"],
    queryFn: ({ signal }) => bodyOf(api.GET("/admin/system", { signal })),
    refetchInterval: EVERY_MS,
  });
  return (
    <Page title="System" subtitle="Status of the worker, the job queue, webhooks and the ledger. Refreshed every 15 seconds.">
      {error && <ErrorAlert error={error} onRetry={() => void refetch()} />}
      {data === undefined ? (
        !error && <Loading />
      ) : (
        <>
          <Attention system={data} />
          <SimpleGrid cols={{ base: 1, md: 2 }} spacing="lg">
            <Running system={data} />
            <Ledger system={data} />
            <Queue system={data} />
            <Webhooks system={data} />
          </SimpleGrid>
          <FailedJobs everyMs={EVERY_MS} />
          <Inbox everyMs={EVERY_MS} />
        </>
      )}
    </Page>
  );
}

function Attention({ system }: { system: System }) {
  const { paid_but_not_credited: unpaid, for_review: review } = system;
  if (unpaid === 0 && review === 0) return null;
  return (
    <Alert color="red" variant="outline" title="Purchases need attention">
      <Stack gap={4}>
        {unpaid > 0 && (
          <Anchor component={Link} size="sm" underline="always" to="/purchases?view=paid_not_credited">
            {unpaid} paid but not credited
          </Anchor>
        )}
        {review > 0 && (
          <Anchor component={Link} size="sm" underline="always" to="/purchases?view=for_review">
            {review} for review
          </Anchor>
        )}
      </Stack>
    </Alert>
  );
}

function Running({ system }: { system: System }) {
  const worker = workerState(system.worker_seen_at, system.now);
  return (
    <Section title="Processes" aside={<Tag tone={worker.tone}>{worker.label}</Tag>}>
      <Facts
        facts={[
          ["Version", system.version],
          ["PostgreSQL", system.database],
          ["Replica", replicaState(system.replica)],
          ["Migration", system.migration],
          ["Worker last seen", <Timestamp key="worker" at={system.worker_seen_at} ago missing="Never" />],
          ["Server time", <Timestamp key="now" at={system.now} />],
        ]}
      />
    </Section>
  );
}

function Ledger({ system: { ledger } }: { system: System }) {
  if (ledger === null) {
    return (
      <Section title="Ledger" aside={<Tag tone="warn">Not verified yet</Tag>}>
        <Facts facts={[["Verified", "The worker verifies it every hour. To verify now, run “ciris-billing ledger verify”."]]} />
      </Section>
    );
  }
  return (
    <Section title="Ledger" aside={<Tag tone={ledger.ok ? "good" : "bad"}>{ledger.ok ? "Balanced" : "Not balanced"}</Tag>}>
      <Facts
        facts={[
          ["Verified", <Timestamp key="at" at={ledger.finished_at} ago />],
          ["Accounts", formatNumber(ledger.accounts)],
          ["Entries", formatNumber(ledger.entries)],
          ["Problem", ledger.problem],
        ]}
      />
    </Section>
  );
}

function Queue({ system: { queue } }: { system: System }) {
  const tone = queue.failed > 0 ? "bad" : "good";
  return (
    <Section title="Job queue" aside={<Tag tone={tone}>{queue.failed > 0 ? `${queue.failed} failed` : "No failures"}</Tag>}>
      <Facts
        facts={[
          ["Waiting", formatNumber(queue.waiting)],
          ["Failed", formatNumber(queue.failed)],
          ["Oldest due job", <Timestamp key="oldest" at={queue.oldest_waiting_at} ago missing="None overdue" />],
        ]}
      />
    </Section>
  );
}

function Webhooks({ system: { webhooks } }: { system: System }) {
  return (
    <Section title="Stripe webhooks">
      <Stack gap="md">
        {webhooks.map((hook) => (
          <Facts
            key={hook.environment}
            facts={[
              ["Environment", <EnvironmentTag key="environment" environment={hook.environment} />],
              ["Last received", <Timestamp key="last" at={hook.last_received_at} ago missing="Never" />],
              ["Last 24 hours", `${formatNumber(hook.received_24h)} received, ${formatNumber(hook.for_review_24h)} for review`],
            ]}
          />
        ))}
      </Stack>
    </Section>
  );
}

function Loading() {
  return (
    <SimpleGrid cols={{ base: 1, md: 2 }} spacing="lg" aria-busy aria-label="Loading">
      {Array.from({ length: 4 }, (_, index) => (
        <Skeleton key={index} height={180} />
      ))}
    </SimpleGrid>
  );
}
