import { Group, List, Paper, Stack, Text } from "@mantine/core";
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { IconBan } from "@tabler/icons-react";

import { api, bodyOf } from "../../api/client";
import type { Refusal, RefusalsQuery } from "../../api/models";
import { Copyable } from "../../components/Copyable";
import { type Column } from "../../components/DataTable";
import { EmptyState } from "../../components/EmptyState";
import { ClearFilters, TextFilter, useFilters } from "../../components/Filters";
import { Page } from "../../components/Page";
import { Pager } from "../../components/Pager";
import { PersonLink } from "../../components/PersonLink";
import { QueryTable } from "../../components/QueryTable";
import { Tag } from "../../components/Tag";
import { Timestamp } from "../../components/Timestamp";
import { isUuid } from "../../logic/filters";
import { humanize } from "../../logic/format";
import { firstChargeOf, remediesOf } from "../../logic/refusals";

export function RefusalsPage() {
  const { get, filtered } = useFilters();
  const account = get("account_id");
  const wrongAccount = account !== null && !isUuid(account);
  const query: RefusalsQuery = { request_id: get("request_id"), account_id: wrongAccount ? null : account, code: get("code"), cursor: get("cursor") };
  const { data, error, refetch, isPlaceholderData } = useQuery({
    queryKey: ["refusals", query],
    queryFn: ({ signal }) => bodyOf(api.GET("/admin/refusals", { params: { query }, signal })),
    placeholderData: keepPreviousData,
    enabled: !wrongAccount,
  });
  return (
    <Page
      title="Refused requests"
      subtitle="Requests of the last two weeks that were answered 402, with the reason and the remedies of the answer, and double charges that an API key refused."
    >
      <Paper withBorder p={{ base: "sm", sm: "md" }}>
        <Group component="search" gap="sm" align="flex-end" mb="sm">
          <TextFilter name="request_id" label="Request id" placeholder="X-Request-ID of the answer" width={340} />
          <TextFilter name="account_id" label="Account id" width={340} />
          <TextFilter name="code" label="Code" placeholder="limit_exceeded" width={220} />
          <ClearFilters />
        </Group>
        <QueryTable
          error={error}
          onRetry={() => void refetch()}
          label="Refused requests"
          columns={COLUMNS}
          rows={wrongAccount ? [] : data?.refusals}
          rowKey={({ refusal_id }) => refusal_id}
          busy={isPlaceholderData}
          empty={<Nothing filtered={filtered} />}
        />
        <Pager nextCursor={data?.next_cursor} />
      </Paper>
    </Page>
  );
}

const COLUMNS: Column<Refusal>[] = [
  { name: "Refusal", cell: (refusal) => <Reason refusal={refusal} /> },
  { name: "User", cell: (refusal) => <User refusal={refusal} />, from: "sm" },
  { name: "Request", cell: (refusal) => <Request refusal={refusal} />, from: "md" },
  { name: "Time", cell: ({ created_at }) => <Timestamp at={created_at} exact />, from: "xs" },
];

function Reason({ refusal }: { refusal: Refusal }) {
  const remedies = remediesOf(refusal);
  const first = firstChargeOf(refusal);
  return (
    <Stack gap={4} align="flex-start">
      <Tag tone="bad">{humanize(refusal.code)}</Tag>
      {refusal.detail !== refusal.code && (
        <Text size="sm" style={{ overflowWrap: "anywhere" }}>
          {refusal.detail}
        </Text>
      )}
      {remedies.length > 0 && (
        <List size="xs" c="dimmed" aria-label="Remedies">
          {remedies.map((remedy) => (
            <List.Item key={remedy}>{remedy}</List.Item>
          ))}
        </List>
      )}
      {first !== null && (
        <Group gap={6}>
          <Text size="xs" c="dimmed">
            First charge
          </Text>
          <Copyable value={first} what="the charge id" short />
        </Group>
      )}
      <Text size="xs" c="dimmed" hiddenFrom="xs">
        <Timestamp at={refusal.created_at} exact />
      </Text>
    </Stack>
  );
}

function User({ refusal: { person, account_id } }: { refusal: Refusal }) {
  return person === null ? <Copyable value={account_id} what="the account id" short /> : <PersonLink person={person} accountId={account_id} />;
}

function Request({ refusal: { route, key_id, key_name, request_id } }: { refusal: Refusal }) {
  return (
    <Stack gap={2} align="flex-start">
      <Text size="sm">{route}</Text>
      <Text size="xs" c="dimmed">
        {key_id === null ? "With the user's token" : `API key ${key_name ?? key_id}`}
      </Text>
      {request_id !== null && <Copyable value={request_id} what="the request id" short />}
    </Stack>
  );
}

function Nothing({ filtered }: { filtered: boolean }) {
  return (
    <EmptyState title={filtered ? "No refused request matches" : "No refused requests"} icon={<IconBan size={22} stroke={1.5} aria-hidden />}>
      A refusal appears a few seconds after its answer, and is kept for two weeks. Of an account that is refused very often, some are kept.
    </EmptyState>
  );
}
