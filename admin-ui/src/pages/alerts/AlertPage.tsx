import { Anchor, SimpleGrid, Stack, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { Link, useParams } from "react-router";

import { api, bodyOf } from "../../api/client";
import { ApiError } from "../../api/errors";
import type { Alert } from "../../api/models";
import { AuditLink } from "../../components/AuditLink";
import { BackLink } from "../../components/BackLink";
import { Copyable } from "../../components/Copyable";
import { DetailSkeleton } from "../../components/DetailSkeleton";
import { EmptyState } from "../../components/EmptyState";
import { ErrorAlert } from "../../components/ErrorAlert";
import { Facts } from "../../components/Facts";
import { Page } from "../../components/Page";
import { PersonLink } from "../../components/PersonLink";
import { RoleButton } from "../../components/RoleButton";
import { Section } from "../../components/Section";
import { EnvironmentTag } from "../../components/states";
import { Timestamp } from "../../components/Timestamp";
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
  if (alert === undefined) return <DetailSkeleton label="Loading alert" />;
  return (
    <Page
      title={RULES[alert.rule]}
      marks={
        <>
          <AlertTags alert={alert} />
          <EnvironmentTag environment={alert.environment} />
        </>
      }
      subtitle={<BackLink to="/alerts">All alerts</BackLink>}
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
      title="Finding"
      aside={<AuditLink targetType="alert" targetId={alert.alert_id} />}
    >
      <Facts
        facts={[
          ["Observed", observedOf(alert)],
          ["Rule threshold", limitOf({ ...alert, minimum: 0 }).replace(/, from .*/, "")],
          ["Subject", <Subject key="subject" alert={alert} />],
          ["First seen", <Timestamp key="first" at={alert.created_at} />],
          ["Last seen", <Timestamp key="last" at={alert.last_seen_at} />],
          ["Decision", alert.decided_at === null ? "None yet" : <Decided key="decided" alert={alert} />],
          ["Reopened", alert.reopened_at === null ? undefined : <Reopened key="reopened" alert={alert} />],
          ["Reason", alert.reason],
          ["Alert id", <Copyable key="id" value={alert.alert_id} what="the alert id" />],
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
      <Timestamp at={alert.reopened_at} /> after new findings
    </>
  );
}

function Accounts({ alert }: { alert: Alert }) {
  return (
    <Section title="Accounts">
      {alert.account_ids.length === 0 ? (
        <Text size="sm">
          The accounts of an API key belong to different people, so this alert cannot stop them. Limit or revoke the key on the{" "}
          <Anchor component={Link} to="/api-keys" inherit underline="always">
            API keys
          </Anchor>{" "}
          page.
        </Text>
      ) : (
        <Stack component="ul" gap={6} m={0} pl="md" aria-label="Accounts of this alert">
          {alert.people.map((person) => (
            <li key={person.account_id}>
              <PersonLink person={person} accountId={person.account_id} />
              {alert.stopped !== null && alert.exempt_ids.includes(person.account_id) && (
                <Text span size="sm" c="dimmed">
                  {" "}
                  not stopped: exempt by an earlier decision
                </Text>
              )}
            </li>
          ))}
        </Stack>
      )}
    </Section>
  );
}

function NoSuchAlert() {
  return (
    <Page title="Alert not found" subtitle={<BackLink to="/alerts">All alerts</BackLink>}>
      <EmptyState title="No alert has this id">Check the id for typing errors.</EmptyState>
    </Page>
  );
}
