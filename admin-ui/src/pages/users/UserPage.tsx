import { Alert, Button, SimpleGrid, Skeleton, Stack, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { Link, useParams } from "react-router";

import { api, bodyOf } from "../../api/client";
import { ApiError } from "../../api/errors";
import type { User } from "../../api/models";
import { AuditLink } from "../../components/AuditLink";
import { BackLink } from "../../components/BackLink";
import { EmptyState } from "../../components/EmptyState";
import { ErrorAlert } from "../../components/ErrorAlert";
import { Page } from "../../components/Page";
import { AccountTag, EnvironmentTag } from "../../components/states";
import { Timestamp } from "../../components/Timestamp";
import { nameOf } from "../../logic/names";
import { Balances } from "./Balances";
import { HoldsSection } from "./HoldsSection";
import { LimitsSection } from "./LimitsSection";
import { Profile } from "./Profile";
import { RefillsSection } from "./RefillsSection";
import { RunsSection } from "./RunsSection";
import { SubscriptionsSection } from "./SubscriptionsSection";
import { Timeline } from "./Timeline";
import { UserActions } from "./UserActions";
import { WalletSection } from "./WalletSection";

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
      subtitle={<BackLink to="/users">All users</BackLink>}
      actions={<UserActions user={user} />}
    >
      <Stopped user={user} />
      {user.erased_at === null && <Balances user={user} />}
      {user.erased_at === null && <WalletSection user={user} />}
      {user.erased_at === null && <SubscriptionsSection user={user} />}
      {user.erased_at === null && <RefillsSection user={user} />}
      {user.erased_at === null && <LimitsSection user={user} />}
      {user.erased_at === null && <HoldsSection user={user} />}
      {user.erased_at === null && <RunsSection user={user} />}
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
  const effect = user.status === "closed" ? "it can neither spend nor receive credits" : "it cannot spend credits";
  return (
    <Alert color="orange" variant="outline" title={`This account is ${user.status}: ${effect}`}>
      {user.status_reason !== null && <Text size="sm">Reason: {user.status_reason}</Text>}
      <AuditLink targetType="account" targetId={user.account_id}>
        View in audit log
      </AuditLink>
    </Alert>
  );
}

function Erased({ at, user }: { at: string; user: User }) {
  return (
    <Alert color="orange" variant="outline" title="The person of this account was erased">
      <Text size="sm">
        Erased <Timestamp at={at} />. The account is closed permanently; only its ledger entries are kept.
      </Text>
      <AuditLink targetType="account" targetId={user.account_id}>
        View in audit log
      </AuditLink>
    </Alert>
  );
}

function NoSuchUser() {
  return (
    <Page title="User not found">
      <EmptyState title="No account has this id">
        Check the id for typing errors. It can also belong to another deployment.
        <Button component={Link} to="/users" variant="default" mt="md" display="block" mx="auto" w="fit-content">
          Search users
        </Button>
      </EmptyState>
    </Page>
  );
}

function Loading() {
  return (
    <Stack gap="lg" aria-busy aria-label="Loading user">
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
