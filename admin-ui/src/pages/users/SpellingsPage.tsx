import { Alert, Anchor, Paper, Stack, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { IconChecks } from "@tabler/icons-react";
import { Link } from "react-router";

import { api, bodyOf } from "../../api/client";
import type { UserRow } from "../../api/models";
import { BackLink } from "../../components/BackLink";
import { DataTable, type Column } from "../../components/DataTable";
import { EmptyState } from "../../components/EmptyState";
import { ErrorAlert } from "../../components/ErrorAlert";
import { ListSkeleton } from "../../components/ListSkeleton";
import { Page } from "../../components/Page";
import { AccountTag, EnvironmentTag } from "../../components/states";
import { Timestamp } from "../../components/Timestamp";
import { formatNumber, shortId } from "../../logic/format";
import { nameOf } from "../../logic/names";

/** Accounts whose identities only differ in case or Unicode form, and can belong to the same person. */
export function SpellingsPage() {
  const { data, error, refetch } = useQuery({
    queryKey: ["users", "spellings"],
    queryFn: ({ signal }) => bodyOf(api.GET("/admin/users/spellings", { signal })),
  });
  return (
    <Page
      title="Similar identities"
      subtitle={<BackLink to="/users">All users</BackLink>}
    >
      <Text size="sm">
        These accounts only differ in upper and lower case, character width or the encoding of accents. They are never merged
        automatically, because they can belong to different people. Compare them, move paid credits with “Adjust credits”,
        and close the unused account. To prevent new ones, set FOLDED_PROVIDERS.
      </Text>
      {error && <ErrorAlert error={error} onRetry={() => void refetch()} />}
      {data === undefined && !error && <ListSkeleton label="Loading similar identities" />}
      {data?.truncated && (
        <Alert color="orange" variant="outline" title="More groups exist than are shown">
          Resolve these first.
        </Alert>
      )}
      {data?.groups.length === 0 && (
        <Paper withBorder p="md">
          <EmptyState title="No similar identities" icon={<IconChecks size={22} stroke={1.5} aria-hidden />}>
            No open accounts differ only in the spelling of their identity.
          </EmptyState>
        </Paper>
      )}
      {data?.groups.map(({ users }) => (
        <Paper key={users.map((user) => user.account_id).join()} withBorder p={{ base: "sm", sm: "md" }}>
          <DataTable
            label={`Accounts similar to ${users[0] === undefined ? "" : nameOf(users[0])}`}
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
