import { Anchor, SimpleGrid, Skeleton, Stack, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { IconArrowLeft } from "@tabler/icons-react";
import { useState } from "react";
import { Link, useParams } from "react-router";

import { api, bodyOf } from "../../api/client";
import { ApiError } from "../../api/errors";
import type { Alert } from "../../api/models";
import { Copyable } from "../../components/Copyable";
import { EmptyState } from "../../components/EmptyState";
import { ErrorAlert } from "../../components/ErrorAlert";
import { Facts } from "../../components/Facts";
import { Page } from "../../components/Page";
import { PersonLink } from "../../components/PersonLink";
import { RoleButton } from "../../components/RoleButton";
import { Section } from "../../components/Section";
import { EnvironmentTag } from "../../components/states";
import { Timestamp } from "../../components/Timestamp";
import { pathWith } from "../../logic/filters";
import { AlertTags } from "./AlertTags";
import { Subject } from "./AlertsPage";
import { DecisionDialog, type Decision } from "./DecisionDialog";
import { limitOf, observedOf, RULES } from "./labels";

export function AlertPage() {
  const { alertId = "" } = useParams();
  const { data: alert, error, refetch } = useQuery({
    queryKey: ["alert", alertId],
    queryFn: ({ signal }) =>
      bodyOf(api.GET("/admin/alerts/{alert_id}", { params: { path: { alert_id: alertId } }, signal })),
  });
  if (error instanceof ApiError && (error.status === 404 || error.status === 422)) return <NoSuchAlert />;
  if (error) return <ErrorAlert error={error} onRetry={() => void refetch()} />;
  if (alert === undefined) return <Loading />;
  return (
    <Page
      title={RULES[alert.rule]}
      marks={
        <>
          <AlertTags alert={alert} />
          <EnvironmentTag environment={alert.environment} />
        </>
      }
      subtitle={<BackLink />}
      actions={<Actions alert={alert} />}
    >
      <SimpleGrid cols={{ base: 1, lg: 2 }} spacing="lg">
        <Found alert={alert} />
        <Accounts alert={alert} />
      </SimpleGrid>
    </Page>
  );
}

function Actions({ alert }: { alert: Alert }) {
  const [open, setOpen] = useState<Decision | null>(null);
  const stoppable = alert.account_ids.length > 0;
  return (
    <>
      {alert.status !== "dismissed" && (
        <RoleButton needs="support" onClick={() => setOpen("dismiss")}>
          Dismiss
        </RoleButton>
      )}
      {stoppable && (alert.status === "open" || alert.stopped !== "hold") && (
        <RoleButton needs="support" onClick={() => setOpen("hold")}>
          Hold
        </RoleButton>
      )}
      {stoppable && (alert.status === "open" || alert.stopped !== "suspend") && (
        <RoleButton needs="support" onClick={() => setOpen("suspend")}>
          Suspend
        </RoleButton>
      )}
      {alert.status !== "open" && (
        <RoleButton needs="support" onClick={() => setOpen("reopen")}>
          Reopen
        </RoleButton>
      )}
      {open !== null && <DecisionDialog decision={open} alert={alert} onClose={() => setOpen(null)} />}
    </>
  );
}

function Found({ alert }: { alert: Alert }) {
  return (
    <Section
      title="What was found"
      aside={
        <Anchor component={Link} size="sm" to={pathWith("/audit", { target_type: "alert", target_id: alert.alert_id })}>
          Audit log
        </Anchor>
      }
    >
      <Facts
        facts={[
          ["Seen", observedOf(alert)],
          ["The rule finds", limitOf({ ...alert, minimum: 0 }).replace(/, from .*/, "")],
          ["About", <Subject key="subject" alert={alert} />],
          ["First seen", <Timestamp key="first" at={alert.created_at} />],
          ["Last seen", <Timestamp key="last" at={alert.last_seen_at} />],
          ["Decided", alert.decided_at === null ? "Not yet" : <Decided key="decided" alert={alert} />],
          ["Opened again", alert.reopened_at === null ? undefined : <Reopened key="reopened" alert={alert} />],
          ["Reason", alert.reason],
          ["Alert id", <Copyable key="id" value={alert.alert_id} what="the alert's id" />],
        ]}
      />
    </Section>
  );
}

function Decided({ alert }: { alert: Alert }) {
  if (alert.decided_at === null) return null;
  return (
    <>
      <Timestamp at={alert.decided_at} /> by {alert.decided_by}
    </>
  );
}

function Reopened({ alert }: { alert: Alert }) {
  if (alert.reopened_at === null) return null;
  return (
    <>
      <Timestamp at={alert.reopened_at} />, because more was found
    </>
  );
}

function Accounts({ alert }: { alert: Alert }) {
  return (
    <Section title="Accounts">
      {alert.account_ids.length === 0 ? (
        <Text size="sm">
          The accounts of a key are many people&apos;s, so none is stopped for it. Limit or revoke the key under{" "}
          <Anchor component={Link} to="/api-keys" inherit underline="always">
            API keys
          </Anchor>
          .
        </Text>
      ) : (
        <Stack component="ul" gap={6} m={0} pl="md" aria-label="Accounts of this alert">
          {alert.people.map((person) => (
            <li key={person.account_id}>
              <PersonLink person={person} accountId={person.account_id} />
              {alert.stopped !== null && alert.exempt_ids.includes(person.account_id) && (
                <Text span size="sm" c="dimmed">
                  {" "}
                  not stopped: an earlier decision let it go on
                </Text>
              )}
            </li>
          ))}
        </Stack>
      )}
    </Section>
  );
}

function BackLink() {
  return (
    <Anchor component={Link} to="/alerts" size="sm" inline>
      <IconArrowLeft size={14} aria-hidden style={{ verticalAlign: "-2px" }} /> All alerts
    </Anchor>
  );
}

function NoSuchAlert() {
  return (
    <Page title="No such alert" subtitle={<BackLink />}>
      <EmptyState title="Nothing was found under this id">A letter may be missing.</EmptyState>
    </Page>
  );
}

function Loading() {
  return (
    <Stack gap="lg" aria-busy aria-label="Loading the alert">
      <Skeleton height={34} width="50%" />
      <SimpleGrid cols={{ base: 1, lg: 2 }}>
        <Skeleton height={220} />
        <Skeleton height={220} />
      </SimpleGrid>
    </Stack>
  );
}
