import { Alert, Anchor, Button, Center, Chip, Group, Select, Stack } from "@mantine/core";
import { useInfiniteQuery } from "@tanstack/react-query";

import { useEffect, useRef } from "react";

import { api, bodyOf } from "../../api/client";
import { EmptyState } from "../../components/EmptyState";
import { ErrorAlert } from "../../components/ErrorAlert";
import { DayFilter, useFilters } from "../../components/Filters";
import { ListSkeleton } from "../../components/ListSkeleton";
import { Section } from "../../components/Section";
import { startOfDay } from "../../logic/dates";
import { keysOf, oneOf, someOf } from "../../logic/filters";
import { KINDS } from "./labels";
import { TimelineItem } from "./TimelineItem";

const FIRST: string | null = null;
const SIZES = ["25", "50", "100", "200"] as const;

/** Where the credits went: everything that happened to an account, newest first. */
export function Timeline({ accountId }: { accountId: string }) {
  const { params, get, set } = useFilters();
  const kinds = someOf(params.getAll("kind"), keysOf(KINDS));
  const size = oneOf(get("size"), SIZES) ?? SIZES[0];
  const until = startOfDay(get("until") ?? "", 1);
  const interaction = get("interaction");
  const query = { kind: kinds, limit: Number(size), until, interaction_id: interaction };
  const { data, error, refetch, hasNextPage, fetchNextPage, isFetchingNextPage } = useInfiniteQuery({
    queryKey: ["timeline", accountId, query],
    initialPageParam: FIRST,
    queryFn: ({ pageParam, signal }) =>
      bodyOf(
        api.GET("/admin/users/{account_id}/timeline", {
          params: { path: { account_id: accountId }, query: { ...query, cursor: pageParam } },
          signal,
        }),
      ),
    getNextPageParam: (last) => last.next_cursor,
  });
  const place = useRef<HTMLDivElement>(null);
  const isThere = data !== undefined;
  useEffect(() => {
    // A link to an interaction leads to it, and not to the top of its user's page.
    if (interaction !== null && isThere) place.current?.scrollIntoView({ block: "start" });
  }, [interaction, isThere]);
  const entries = data?.pages.flatMap((page) => page.entries);
  return (
    <Section title="Timeline">
      <div ref={place} />
      {interaction !== null && (
        <Alert color="indigo" variant="outline" mb="sm" title="One interaction" style={{ overflowWrap: "anywhere" }}>
          Charges and tool uses that name {interaction}.{" "}
          <Anchor component="button" type="button" size="sm" underline="always" onClick={() => set("interaction", null)}>
            Show the whole timeline
          </Anchor>
        </Alert>
      )}
      <Group gap="sm" mb="sm" align="flex-end">
        <DayFilter name="until" label="Up to the day" />
        <Select
          label="Entries a page"
          w={{ base: "calc(50% - 6px)", xs: 130 }}
          data={[...SIZES]}
          value={size}
          allowDeselect={false}
          onChange={(chosen) => set("size", chosen)}
        />
      </Group>
      <Chip.Group multiple value={kinds} onChange={(chosen) => set("kind", chosen)}>
        <Group gap="xs" mb="sm" role="group" aria-label="Kinds to show; none chosen shows all">
          {keysOf(KINDS).map((kind) => (
            <Chip key={kind} value={kind} size="xs" variant="outline">
              {KINDS[kind]}
            </Chip>
          ))}
        </Group>
      </Chip.Group>
      {error && <ErrorAlert error={error} onRetry={() => void refetch()} />}
      {entries === undefined && !error && <ListSkeleton label="Loading the timeline" />}
      {entries?.length === 0 && (
        <EmptyState title={emptyTitle(kinds.length > 0 || until !== null, interaction)}>
          {kinds.length > 0 || until !== null || interaction !== null
            ? "Take a filter away to see the rest."
            : "Charges, credits, purchases and what admins do here will be told in one list."}
        </EmptyState>
      )}
      {entries !== undefined && entries.length > 0 && (
        <Stack component="ol" gap={0} m={0} p={0} aria-label="Timeline, newest first">
          {entries.map((entry) => (
            <TimelineItem key={`${entry.kind}-${entry.id}`} entry={entry} />
          ))}
        </Stack>
      )}
      {hasNextPage && (
        <Center mt="md">
          <Button variant="default" size="xs" loading={isFetchingNextPage} onClick={() => void fetchNextPage()}>
            Load more
          </Button>
        </Center>
      )}
    </Section>
  );
}

function emptyTitle(filtered: boolean, interaction: string | null): string {
  if (interaction !== null) return "No charge names this interaction";
  return filtered ? "Nothing matches these filters" : "Nothing happened yet";
}
