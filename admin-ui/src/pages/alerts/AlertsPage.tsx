import { Anchor, Group, Paper, Stack, Text } from "@mantine/core";
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { IconChecks } from "@tabler/icons-react";
import { Link } from "react-router";

import { api, bodyOf } from "../../api/client";
import type { Alert, AlertsQuery } from "../../api/models";
import { type Column } from "../../components/DataTable";
import { EmptyState } from "../../components/EmptyState";
import { ClearFilters, ChoiceFilter, useFilters } from "../../components/Filters";
import { Page } from "../../components/Page";
import { Pager } from "../../components/Pager";
import { PersonLink } from "../../components/PersonLink";
import { QueryTable } from "../../components/QueryTable";
import { EnvironmentTag } from "../../components/states";
import { Timestamp } from "../../components/Timestamp";
import { keysOf, oneOf } from "../../logic/filters";
import { shortId } from "../../logic/format";
import { cardOf } from "../../logic/names";
import { ENVIRONMENTS } from "../users/labels";
import { observedOf, RULES, STATUSES } from "./labels";
import { Rules } from "./Rules";
import { AlertTags } from "./AlertTags";

export function AlertsPage() {
  const { get, filtered } = useFilters();
  const query: AlertsQuery = {
    status: oneOf(get("status"), keysOf(STATUSES)),
    rule: oneOf(get("rule"), keysOf(RULES)),
    environment: oneOf(get("environment"), keysOf(ENVIRONMENTS)),
    cursor: get("cursor"),
  };
  const { data, error, refetch, isPlaceholderData } = useQuery({
    queryKey: ["alerts", query],
    queryFn: ({ signal }) => bodyOf(api.GET("/admin/alerts", { params: { query }, signal })),
    placeholderData: keepPreviousData,
  });
  return (
    <Page
      title="Alerts"
      subtitle="Unusual activity found by the rules below. The worker checks every five minutes. Accounts are only stopped by a rule's action or by your decision."
    >
      <Paper withBorder p={{ base: "sm", sm: "md" }}>
        <Group component="search" gap="sm" align="flex-end" mb="sm">
          <ChoiceFilter name="status" label="Status" choices={STATUSES} width={140} />
          <ChoiceFilter name="rule" label="Rule" choices={RULES} width={280} />
          <ChoiceFilter name="environment" label="Environment" choices={ENVIRONMENTS} width={130} />
          <ClearFilters />
        </Group>
        <QueryTable
          error={error}
          onRetry={() => void refetch()}
          label="Alerts"
          columns={COLUMNS}
          rows={data?.alerts}
          rowKey={(alert) => alert.alert_id}
          busy={isPlaceholderData}
          empty={<Nothing filtered={filtered} />}
        />
        <Pager nextCursor={data?.next_cursor} />
      </Paper>
      <Rules />
    </Page>
  );
}

const COLUMNS: Column<Alert>[] = [
  { name: "Finding", cell: (alert) => <Finding alert={alert} /> },
  { name: "Status", cell: (alert) => <Status alert={alert} /> },
  { name: "Subject", cell: (alert) => <Subject alert={alert} />, from: "md" },
  { name: "Environment", cell: (alert) => <EnvironmentTag environment={alert.environment} />, from: "md" },
  { name: "Last seen", cell: (alert) => <Timestamp at={alert.last_seen_at} />, from: "sm" },
];

function Finding({ alert }: { alert: Alert }) {
  return (
    <Stack gap={0}>
      <Anchor component={Link} to={`/alerts/${alert.alert_id}`} size="sm" fw={600}>
        {RULES[alert.rule]}
      </Anchor>
      <Text size="xs" c="dimmed">
        {observedOf(alert)}
      </Text>
    </Stack>
  );
}

/** The status, and the reason of the last decision. */
function Status({ alert }: { alert: Alert }) {
  return (
    <Stack gap={2} align="flex-start">
      <AlertTags alert={alert} />
      {alert.reason !== null && (
        <Text size="xs" c="dimmed" style={{ overflowWrap: "anywhere" }}>
          {alert.reason}
        </Text>
      )}
    </Stack>
  );
}

/** The subject of an alert, linked to its page. A card has no page: the alert lists its accounts. */
export function Subject({ alert }: { alert: Alert }) {
  if (alert.rule === "purchases_per_card") {
    return <Text span inherit title={alert.subject}>{cardOf(alert) ?? `Card ${alert.subject.slice(0, 8)}`}</Text>;
  }
  const person = alert.people.find(({ account_id }) => account_id === alert.subject);
  if (person !== undefined) return <PersonLink person={person} accountId={alert.subject} />;
  const [name, page] =
    alert.rule === "accounts_per_key" ? ["API key", "/api-keys"] : ["Account", `/users/${alert.subject}`];
  return (
    <Anchor component={Link} to={page} size="sm" underline="always" title={alert.subject} style={{ whiteSpace: "nowrap" }}>
      {name} {shortId(alert.subject)}
    </Anchor>
  );
}

function Nothing({ filtered }: { filtered: boolean }) {
  if (filtered) return <EmptyState title="No alert matches">Clear the filters to see all alerts.</EmptyState>;
  return (
    <EmptyState title="No alerts" icon={<IconChecks size={22} stroke={1.5} aria-hidden />}>
      Findings are listed here, once per day for each account, card or key. Accounts found later are added to their alert.
    </EmptyState>
  );
}
