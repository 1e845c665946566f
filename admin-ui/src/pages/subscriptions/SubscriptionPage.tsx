import { Anchor, SimpleGrid, Skeleton } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useParams } from "react-router";

import { api, bodyOf } from "../../api/client";
import { ApiError } from "../../api/errors";
import type { SubscriptionDetails } from "../../api/models";
import { BackLink } from "../../components/BackLink";
import { Copyable } from "../../components/Copyable";
import { DetailSkeleton } from "../../components/DetailSkeleton";
import { EmptyState } from "../../components/EmptyState";
import { ErrorAlert } from "../../components/ErrorAlert";
import { Facts } from "../../components/Facts";
import { Page } from "../../components/Page";
import { PersonLink } from "../../components/PersonLink";
import { Section } from "../../components/Section";
import { EnvironmentTag } from "../../components/states";
import { Timestamp } from "../../components/Timestamp";
import { humanize } from "../../logic/format";
import { planSentence } from "../../logic/plans";
import { dashboardUrl, planOf } from "../../logic/subscriptions";
import { Status } from "./cells";
import { subscriptionFacts } from "./facts";
import { Events, Invoices } from "./History";
import { PeriodGrants } from "./PeriodGrants";

export function SubscriptionPage() {
  const { accountId = "", subscriptionId = "" } = useParams();
  const { data: one, error, refetch } = useQuery({
    queryKey: ["subscription", accountId, subscriptionId],
    queryFn: ({ signal }) =>
      bodyOf(
        api.GET("/admin/subscriptions/{account_id}/{subscription_id}", {
          params: { path: { account_id: accountId, subscription_id: subscriptionId } },
          signal,
        }),
      ),
  });
  if (error instanceof ApiError && (error.status === 404 || error.status === 422)) return <NoSuchSubscription />;
  if (error) return <ErrorAlert error={error} onRetry={() => void refetch()} />;
  if (one === undefined) {
    return (
      <DetailSkeleton label="Loading subscription">
        <Skeleton height={200} />
      </DetailSkeleton>
    );
  }
  return (
    <Page
      title={planOf(one)}
      marks={
        <>
          <Status subscription={one} />
          <EnvironmentTag environment={one.environment} />
        </>
      }
      subtitle={<BackLink to="/subscriptions">All subscriptions</BackLink>}
    >
      <SimpleGrid cols={{ base: 1, lg: 2 }} spacing="lg">
        <Section title="Plan and payment">
          <Facts facts={subscriptionFacts(one)} />
        </Section>
        <Ids one={one} />
      </SimpleGrid>
      <Invoices one={one} />
      <Section title="Grants of paid periods">
        <PeriodGrants grants={one.grants} />
      </Section>
      <Terms one={one} />
      <Events one={one} />
    </Page>
  );
}

function Ids({ one }: { one: SubscriptionDetails }) {
  return (
    <Section title="Subscriber">
      <Facts
        facts={[
          ["Subscriber", <PersonLink key="subscriber" person={one.subscriber} accountId={one.account_id} />],
          ["Plan without it", one.plan_before === null ? undefined : humanize(one.plan_before)],
          [
            "Stripe",
            <Anchor key="stripe" href={dashboardUrl("subscriptions", one.subscription_id, one.environment)} target="_blank" rel="noreferrer" size="sm" underline="always">
              {one.environment === "live" ? "View in Stripe" : "View in Stripe (test mode)"}
            </Anchor>,
          ],
          ["Subscription id", <Copyable key="id" value={one.subscription_id} what="the subscription id" />],
          ["Customer id", one.customer_id === null ? undefined : <Copyable value={one.customer_id} what="the customer id" />],
          ["Account id", <Copyable key="account" value={one.account_id} what="the account id" />],
          ["Last updated", <Timestamp key="updated" at={one.updated_at} />],
        ]}
      />
    </Section>
  );
}

/** The plans of the subscription's prices, as the subscriber keeps them. */
function Terms({ one }: { one: SubscriptionDetails }) {
  return (
    <Section title="Kept terms">
      {one.terms.length === 0 ? (
        <EmptyState title="No terms">No plan in force has the price of this subscription, so it gives nothing. Add the price to a plan.</EmptyState>
      ) : (
        <Facts
          facts={one.terms.map(({ plan, interval, created_at, price_id }) => [
            `${plan.title}, ${interval === "year" ? "yearly" : "monthly"}`,
            <span key={price_id} style={{ overflowWrap: "anywhere" }}>
              {planSentence(plan)}; kept since <Timestamp at={created_at} />
            </span>,
          ])}
        />
      )}
    </Section>
  );
}

function NoSuchSubscription() {
  return (
    <Page title="Subscription not found" subtitle={<BackLink to="/subscriptions">All subscriptions</BackLink>}>
      <EmptyState title="The account has no such subscription">Check the id for typing errors, or open the subscription from the user&apos;s page.</EmptyState>
    </Page>
  );
}
