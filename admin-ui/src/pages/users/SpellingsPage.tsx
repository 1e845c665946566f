import { Alert, Anchor, Paper, Stack, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { IconArrowLeft, IconChecks } from "@tabler/icons-react";
import { Link } from "react-router";

import { api, bodyOf } from "../../api/client";
import type { UserRow } from "../../api/models";
import { DataTable, type Column } from "../../components/DataTable";
import { EmptyState } from "../../components/EmptyState";
import { ErrorAlert } from "../../components/ErrorAlert";
import { ListSkeleton } from "../../components/ListSkeleton";
import { Page } from "../../components/Page";
import { AccountTag, EnvironmentTag } from "../../components/states";
import { Timestamp } from "../../components/Timestamp";
import { formatNumber, shortId } from "../../logic/format";
import { nameOf } from "../../logic/names";

/** Accounts whose identities differ in case or Unicode form only: perhaps one person's. */
export function SpellingsPage() {
  const { data, error, refetch } = useQuery({
    queryKey: ["users", "spellings"],
    queryFn: ({ signal }) => bodyOf(api.GET("/admin/users/spellings", { signal })),
  });
  return (
    <Page
      title="Spellings of one person"
      subtitle={
        <Anchor component={Link} to="/users" size="sm" inline>
          <IconArrowLeft size={14} aria-hidden style={{ verticalAlign: "-2px" }} /> All users
        </Anchor>
      }
    >
      <Text size="sm">
        These accounts differ only in large and small letters, width or the encoding of accents. They are never merged: they
        may belong to two people. Compare them, move paid credits with “Adjust credits”, and close the account that is not
        used. FOLDED_PROVIDERS prevents new ones.
      </Text>
      {error && <ErrorAlert error={error} onRetry={() => void refetch()} />}
      {data === undefined && !error && <ListSkeleton label="Loading the spellings" />}
      {data?.truncated && (
        <Alert color="orange" variant="outline" title="There are more groups than are shown">
          Act on these first.
        </Alert>
      )}
      {data?.groups.length === 0 && (
        <Paper withBorder p="md">
          <EmptyState title="No spellings" icon={<IconChecks size={22} stroke={1.5} aria-hidden />}>
            No two open accounts differ in the spelling of their identity only.
          </EmptyState>
        </Paper>
      )}
      {data?.groups.map(({ users }) => (
        <Paper key={users.map((user) => user.account_id).join()} withBorder p={{ base: "sm", sm: "md" }}>
          <DataTable
            label={`Spellings of ${users[0] === undefined ? "" : nameOf(users[0])}`}
            columns={COLUMNS}
            rows={users}
            rowKey={(user) => user.account_id}
            empty={null}
          />
        </Paper>
      ))}
    </Page>
  );
}

const COLUMNS: Column<UserRow>[] = [
  { name: "Identity", cell: (user) => <Identity user={user} /> },
  { name: "Status", cell: (user) => <AccountTag status={user.status} />, from: "sm" },
  { name: "Environment", cell: (user) => <EnvironmentTag environment={user.environment} />, from: "md" },
  { name: "Paid", cell: (user) => formatNumber(user.paid), numeric: true },
  { name: "Free", cell: (user) => formatNumber(user.free), numeric: true, from: "sm" },
  { name: "Last activity", cell: (user) => <Timestamp at={user.last_activity_at} ago />, from: "sm" },
];

function Identity({ user }: { user: UserRow }) {
  return (
    <Stack gap={0} style={{ overflowWrap: "anywhere", minWidth: 120 }}>
      <Anchor component={Link} to={`/users/${user.account_id}`} size="sm" fw={600}>
        {user.external_id ?? shortId(user.account_id)}
      </Anchor>
      <Text size="xs" c="dimmed">
        {user.oauth_provider} · {nameOf(user)}
      </Text>
    </Stack>
  );
}
