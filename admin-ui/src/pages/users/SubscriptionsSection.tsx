import { Anchor, Group, Stack, Text, Title } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { Link } from "react-router";

import { api, bodyOf } from "../../api/client";
import type { Subscription, User } from "../../api/models";
import { ErrorAlert } from "../../components/ErrorAlert";
import { EmptyState } from "../../components/EmptyState";
import { Facts } from "../../components/Facts";
import { Section } from "../../components/Section";
import { planOf } from "../../logic/subscriptions";
import { subscriptionFacts } from "../subscriptions/facts";
import { PeriodGrants } from "../subscriptions/PeriodGrants";
import { Status } from "../subscriptions/cells";

/** The subscriptions of an account, and the grants that their periods gave. */
export function SubscriptionsSection({ user }: { user: User }) {
  const { data, error, refetch } = useQuery({
    queryKey: ["account-subscriptions", user.account_id],
    queryFn: ({ signal }) =>
      bodyOf(
        api.GET("/admin/users/{account_id}/subscriptions", { params: { path: { account_id: user.account_id } }, signal }),
      ),
  });
  return (
    <Section title="Subscription">
      {error ? (
        <ErrorAlert error={error} onRetry={() => void refetch()} />
      ) : data === undefined ? (
        <Text size="sm">Loading…</Text>
      ) : data.subscriptions.length === 0 ? (
        <EmptyState title="No subscription">The user subscribes to a plan on Stripe&apos;s page.</EmptyState>
      ) : (
        <Stack gap="md">
          {data.subscriptions.map((one) => (
            <OneSubscription key={one.subscription_id} one={one} />
          ))}
          <Title order={3} size="h6">
            Grants of paid periods
          </Title>
          <PeriodGrants grants={data.grants} />
        </Stack>
      )}
    </Section>
  );
}

function OneSubscription({ one }: { one: Subscription }) {
  return (
    <div>
      <Group gap="xs" mb="xs">
        <Anchor component={Link} to={`/subscriptions/${one.account_id}/${one.subscription_id}`} size="sm" fw={600} underline="always">
          {planOf(one)}
        </Anchor>
        <Status subscription={one} />
      </Group>
      {one.ended_at === null && <Facts facts={subscriptionFacts(one)} />}
    </div>
  );
}
