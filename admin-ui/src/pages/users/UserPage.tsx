import { Alert, Anchor, Button, SimpleGrid, Skeleton, Stack, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { IconArrowLeft } from "@tabler/icons-react";
import { Link, useParams } from "react-router";

import { api, bodyOf } from "../../api/client";
import { ApiError } from "../../api/errors";
import type { User } from "../../api/models";
import { EmptyState } from "../../components/EmptyState";
import { ErrorAlert } from "../../components/ErrorAlert";
import { Page } from "../../components/Page";
import { AccountTag, EnvironmentTag } from "../../components/states";
import { Timestamp } from "../../components/Timestamp";
import { pathWith } from "../../logic/filters";
import { nameOf } from "../../logic/names";
import { Balances } from "./Balances";
import { Profile } from "./Profile";
import { Timeline } from "./Timeline";
import { UserActions } from "./UserActions";

export function UserPage() {
  const { accountId = "" } = useParams();
  const { data: user, error, refetch } = useQuery({
    queryKey: ["user", accountId],
    queryFn: ({ signal }) =>
      bodyOf(api.GET("/admin/users/{account_id}", { params: { path: { account_id: accountId } }, signal })),
  });
  if (error instanceof ApiError && (error.status === 404 || error.status === 422)) return <NoSuchUser />;
  if (error) return <ErrorAlert error={error} onRetry={() => void refetch()} />;
  if (user === undefined) return <Loading />;
  return (
    <Page
      title={nameOf(user)}
      marks={
        <>
          <AccountTag status={user.status} />
          <EnvironmentTag environment={user.environment} />
        </>
      }
      subtitle={<BackLink />}
      actions={<UserActions user={user} />}
    >
      <Stopped user={user} />
      {user.erased_at === null && <Balances user={user} />}
      <SimpleGrid cols={{ base: 1, lg: 2 }} spacing="lg">
        <Profile user={user} />
      </SimpleGrid>
      <Timeline accountId={user.account_id} />
    </Page>
  );
}

function Stopped({ user }: { user: User }) {
  if (user.status === "active") return null;
  if (user.erased_at !== null) return <Erased at={user.erased_at} user={user} />;
  const what = user.status === "closed" ? "neither spends nor receives credits" : "cannot spend";
  return (
    <Alert color="orange" variant="outline" title={`This account is ${user.status}: it ${what}.`}>
      {user.status_reason !== null && <Text size="sm">Reason: {user.status_reason}</Text>}
      <Anchor
        component={Link}
        size="sm"
        underline="always"
        to={pathWith("/audit", { target_type: "account", target_id: user.account_id })}
      >
        Who did it, and when
      </Anchor>
    </Alert>
  );
}

function Erased({ at, user }: { at: string; user: User }) {
  return (
    <Alert color="orange" variant="outline" title="The person behind this account was erased.">
      <Text size="sm">
        <Timestamp at={at} />. It is closed for ever; what is left are the books.
      </Text>
      <Anchor
        component={Link}
        size="sm"
        underline="always"
        to={pathWith("/audit", { target_type: "account", target_id: user.account_id })}
      >
        Who did it, and why
      </Anchor>
    </Alert>
  );
}

function BackLink() {
  return (
    <Anchor component={Link} to="/users" size="sm" inline>
      <IconArrowLeft size={14} aria-hidden style={{ verticalAlign: "-2px" }} /> All users
    </Anchor>
  );
}

function NoSuchUser() {
  return (
    <Page title="No such user">
      <EmptyState title="Nobody has this account id">
        It may belong to the other database, or a letter is missing.
        <Button component={Link} to="/users" variant="default" mt="md" display="block" mx="auto" w="fit-content">
          Search for the user
        </Button>
      </EmptyState>
    </Page>
  );
}

function Loading() {
  return (
    <Stack gap="lg" aria-busy aria-label="Loading the user">
      <Skeleton height={34} width="40%" />
      <SimpleGrid cols={{ base: 2, sm: 4 }}>
        {Array.from({ length: 4 }, (_, index) => (
          <Skeleton key={index} height={84} />
        ))}
      </SimpleGrid>
      <Skeleton height={220} />
      <Skeleton height={320} />
    </Stack>
  );
}
