import { Alert, Anchor, Button, Group, Paper, Stack, Text } from "@mantine/core";
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { Link } from "react-router";

import { api, bodyOf } from "../../api/client";
import type { UserRow, UsersQuery } from "../../api/models";
import { Breakable } from "../../components/Breakable";
import { type Column } from "../../components/DataTable";
import { EmptyState } from "../../components/EmptyState";
import { ExportButton } from "../../components/ExportButton";
import { ClearFilters, ChoiceFilter, DayFilter, TextFilter, useFilters } from "../../components/Filters";
import { Page } from "../../components/Page";
import { BY_PAGE, Pager } from "../../components/Pager";
import { QueryTable } from "../../components/QueryTable";
import { AccountTag, EnvironmentTag } from "../../components/states";
import { Timestamp } from "../../components/Timestamp";
import { startOfDay } from "../../logic/dates";
import { keysOf, oneOf } from "../../logic/filters";
import { formatNumber } from "../../logic/format";
import { nameOf } from "../../logic/names";
import { BALANCES, ENVIRONMENTS, SORTS, STATUSES } from "./labels";

export function UsersPage() {
  const { get, clear, filtered } = useFilters();
  const sort = oneOf(get("sort"), keysOf(SORTS)) ?? "newest";
  const filters = {
    search: get("search"),
    status: oneOf(get("status"), keysOf(STATUSES)),
    environment: oneOf(get("environment"), keysOf(ENVIRONMENTS)),
    balance: oneOf(get("balance"), keysOf(BALANCES)),
    plan_name: get("plan_name"),
    active_since: startOfDay(get("active_since") ?? ""),
    inactive_since: startOfDay(get("inactive_since") ?? ""),
  };
  const query: UsersQuery = { ...filters, sort, cursor: get("cursor") };
  const { data, error, refetch, isPlaceholderData } = useQuery({
    queryKey: ["users", query],
    queryFn: ({ signal }) => bodyOf(api.GET("/admin/users", { params: { query }, signal })),
    placeholderData: keepPreviousData,
  });
  return (
    <Page
      title="Users"
      subtitle="Accounts of all users, live and test."
      actions={
        <Group gap="sm">
          <Button component={Link} to="/users/spellings" variant="default">
            Similar identities
          </Button>
          <ExportButton needs="support" path="/admin/users.csv" filters={filters} />
        </Group>
      }
    >
      <Paper withBorder p={{ base: "sm", sm: "md" }}>
        <Group component="search" gap="sm" align="flex-end" mb="sm">
          <TextFilter name="search" label="Search" placeholder="E-mail, name, external id, account id" width={320} />
          <ChoiceFilter name="status" label="Status" choices={STATUSES} />
          <ChoiceFilter name="balance" label="Balance" choices={BALANCES} />
          <ChoiceFilter name="environment" label="Environment" choices={ENVIRONMENTS} width={130} />
          <TextFilter name="plan_name" label="Plan" width={130} narrow placeholder="free" />
          <DayFilter name="active_since" label="Active since" />
          <DayFilter name="inactive_since" label="Inactive since" />
          <ChoiceFilter name="sort" label="Order" choices={SORTS} placeholder="Newest first" width={190} />
          <ClearFilters />
        </Group>
        {data?.truncated && (
          <Alert color="orange" variant="outline" mb="sm" title="Too many matches">
            The search examines at most 500 matches. Enter more characters to narrow it.
          </Alert>
        )}
        <QueryTable
          error={error}
          onRetry={() => void refetch()}
          label="Users"
          columns={COLUMNS}
          rows={data?.users}
          rowKey={(user) => user.account_id}
          busy={isPlaceholderData}
          empty={filtered ? <NothingMatches onClear={clear} /> : <NoUsers />}
        />
        {data !== undefined && data.as_of !== null && (
          <Text size="xs" c="dimmed" mt="sm">
            Order and activity as of <Timestamp at={data.as_of} ago />; balances are current.
          </Text>
        )}
        <Pager nextCursor={data?.next_cursor} labels={sort === "newest" ? undefined : BY_PAGE} />
      </Paper>
    </Page>
  );
}

const COLUMNS: Column<UserRow>[] = [
  { name: "User", cell: (user) => <UserCell user={user} /> },
  { name: "Status", cell: (user) => <AccountTag status={user.status} /> },
  { name: "Environment", cell: (user) => <EnvironmentTag environment={user.environment} />, from: "md" },
  { name: "Plan", cell: (user) => user.plan_name, from: "lg" },
  { name: "Paid", cell: (user) => formatNumber(user.paid), numeric: true },
  { name: "Free", cell: (user) => (user.status === "closed" ? "—" : formatNumber(user.free)), numeric: true, from: "sm" },
  { name: "Debt", cell: (user) => <Debt credits={user.debt} />, numeric: true, from: "sm" },
  { name: "Credits spent", cell: (user) => formatNumber(user.total_uses), numeric: true, from: "md" },
  { name: "Last activity", cell: (user) => <Timestamp at={user.last_activity_at} ago />, from: "sm" },
  { name: "Created", cell: (user) => <Timestamp at={user.created_at} />, from: "lg" },
];

function UserCell({ user }: { user: UserRow }) {
  const name = nameOf(user);
  return (
    <Stack gap={0} style={{ overflowWrap: "anywhere", minWidth: 120 }}>
      <Anchor component={Link} to={`/users/${user.account_id}`} size="sm" fw={600}>
        <Breakable text={name} />
      </Anchor>
      {user.external_id !== null && user.external_id !== name && (
        <Text size="xs" c="dimmed">
          {user.external_id}
        </Text>
      )}
    </Stack>
  );
}

function Debt({ credits }: { credits: number }) {
  if (credits === 0) return <Text span inherit c="dimmed">0</Text>;
  return <Text span inherit c="var(--mantine-color-error)" fw={600}>{formatNumber(credits)}</Text>;
}

function NothingMatches({ onClear }: { onClear: () => void }) {
  return (
    <EmptyState title="No matching users">
      The search matches the beginning of words in e-mail addresses, names and external ids, and complete account ids. Enter
      fewer characters or{" "}
      <Anchor component="button" type="button" size="sm" onClick={onClear} underline="always">
        show all users
      </Anchor>
      .
    </EmptyState>
  );
}

function NoUsers() {
  return (
    <EmptyState title="No users yet">
      An account is created when an agent first checks or charges a user. Create an{" "}
      <Anchor component={Link} to="/api-keys" size="sm" underline="always">
        API key
      </Anchor>{" "}
      for an agent to get started.
    </EmptyState>
  );
}
