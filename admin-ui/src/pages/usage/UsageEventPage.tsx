import { Anchor, Code, SimpleGrid, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { Link, useParams } from "react-router";

import { api, bodyOf } from "../../api/client";
import { ApiError } from "../../api/errors";
import type { UsageEventDetail } from "../../api/models";
import { BackLink } from "../../components/BackLink";
import { Copyable } from "../../components/Copyable";
import { DetailSkeleton } from "../../components/DetailSkeleton";
import { EmptyState } from "../../components/EmptyState";
import { ErrorAlert } from "../../components/ErrorAlert";
import { Facts } from "../../components/Facts";
import { Page } from "../../components/Page";
import { PersonLink } from "../../components/PersonLink";
import { Section } from "../../components/Section";
import { Tag } from "../../components/Tag";
import { Timestamp } from "../../components/Timestamp";
import { formatAmount, isZero } from "../../logic/decimals";
import { pathWith } from "../../logic/filters";
import { formatNumber, humanize } from "../../logic/format";
import { PriceLines } from "../prices/PriceLines";
import { meterName, quantitiesText, STATUS_TONES, STATUSES } from "./labels";

export function UsageEventPage() {
  const { accountId = "", usageId = "" } = useParams();
  const { data: event, error, refetch } = useQuery({
    queryKey: ["usage", "event", accountId, usageId],
    queryFn: ({ signal }) =>
      bodyOf(
        api.GET("/admin/usage/events/{account_id}/{usage_id}", {
          params: { path: { account_id: accountId, usage_id: usageId } },
          signal,
        }),
      ),
  });
  if (error instanceof ApiError && (error.status === 404 || error.status === 422)) return <NoSuchEvent />;
  if (error) return <ErrorAlert error={error} onRetry={() => void refetch()} />;
  if (event === undefined) return <DetailSkeleton label="Loading usage event" />;
  return (
    <Page
      title={event.model ?? meterName(event.meter)}
      marks={<Tag tone={STATUS_TONES[event.status]}>{STATUSES[event.status]}</Tag>}
      subtitle={<BackLink to="/usage?view=events">All usage events</BackLink>}
    >
      <SimpleGrid cols={{ base: 1, lg: 2 }} spacing="lg">
        <Price event={event} />
        <Origin event={event} />
      </SimpleGrid>
      <Breakdown event={event} />
      <Sent event={event} />
    </Page>
  );
}

function Price({ event }: { event: UsageEventDetail }) {
  const money = (amount: string) => formatAmount(amount, event.currency);
  return (
    <Section title="Cost">
      <Facts
        facts={[
          ["Cost", <b key="cost">{money(event.cost)}</b>],
          ["Cost after correction", event.corrected === null ? undefined : money(event.corrected.cost)],
          ["At list prices", event.provider_cost === null ? undefined : money(event.provider_cost)],
          ["Margin", event.margin === null ? undefined : money(event.margin)],
          ["Owed", isZero(event.debt) ? null : money(event.debt)],
          ["Balance afterwards", money(event.balance)],
          ["Refused because", event.refusal === null ? null : humanize(event.refusal)],
          ["Refused attempts", event.attempts === 0 ? null : formatNumber(event.attempts)],
          ["Price", event.stated ? "Stated by the caller" : "Of the price book"],
          ["Price book", event.price_version === null ? null : <PriceBookLink key="book" version={event.price_version} />],
          ["Plan", event.plan],
        ]}
      />
    </Section>
  );
}

function PriceBookLink({ version }: { version: number }) {
  return (
    <Anchor component={Link} to={`/price-books/${String(version)}`} size="sm" underline="always">
      Version {version}
    </Anchor>
  );
}

function Origin({ event }: { event: UsageEventDetail }) {
  return (
    <Section title="Event">
      <Facts
        facts={[
          ["User", event.person === null ? event.account_id : <PersonLink key="user" person={event.person} accountId={event.account_id} />],
          ["Time", <Timestamp key="time" at={event.time} exact />],
          ["Recorded", <Timestamp key="recorded" at={event.created_at} exact />],
          ["Meter", meterName(event.meter)],
          ["Provider", event.provider],
          ["Quantities", quantitiesText(event.quantities)],
          ["Agent", event.agent_id],
          ["Tool", event.tool],
          ["Run", event.run_id === null ? null : <RunLink key="run" run={event.run_id} />],
          ["Parent run", event.parent_run_id],
          ["Conversation", event.conversation],
          ["Request id", event.request_id],
          ["Trace", event.traceparent],
          ["API key", event.key_id && <Copyable value={event.key_id} what="the key id" />],
          ["Service", event.service_name === "unknown" ? null : event.service_name],
          ["Source", event.source],
          ["Event id", event.event_id === null ? undefined : <Copyable key="id" value={event.event_id} what="the event id" />],
          ["Transaction id", <Copyable key="transaction" value={event.transaction_id} what="the transaction id" />],
        ]}
      />
    </Section>
  );
}

function RunLink({ run }: { run: string }) {
  return (
    <Anchor component={Link} to={pathWith("/usage", { run, view: "events" })} size="sm" underline="always" style={{ overflowWrap: "anywhere" }}>
      {run}
    </Anchor>
  );
}

function Breakdown({ event }: { event: UsageEventDetail }) {
  return (
    <Section title="Price breakdown">
      {event.lines.length > 0 ? (
        <>
          <Text size="xs" c="dimmed" mb="xs">
            Computed again from the stored quantities and the price book version of the event. The lines sum to the cost.
          </Text>
          <PriceLines lines={event.lines} currency={event.currency} />
        </>
      ) : (
        <Text size="sm">{event.stated ? "The caller stated the cost, so no price book was used." : "No price was computed."}</Text>
      )}
    </Section>
  );
}

/** The usage object as it was sent, and the caller's metadata. */
function Sent({ event }: { event: UsageEventDetail }) {
  return (
    <Section title="As sent">
      <Json label="Usage" value={event.raw} />
      {event.metadata !== null && <Json label="Metadata" value={event.metadata} />}
    </Section>
  );
}

function Json({ label, value }: { label: string; value: unknown }) {
  return (
    <figure style={{ margin: 0 }}>
      <Text component="figcaption" size="sm" c="dimmed">
        {label}
      </Text>
      <Code block style={{ whiteSpace: "pre-wrap", overflowWrap: "anywhere" }}>
        {JSON.stringify(value, null, 2)}
      </Code>
    </figure>
  );
}

function NoSuchEvent() {
  return (
    <Page title="Usage event not found" subtitle={<BackLink to="/usage?view=events">All usage events</BackLink>}>
      <EmptyState title="No usage event has this id">Check the address for typing errors.</EmptyState>
    </Page>
  );
}
