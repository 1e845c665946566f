import { Alert, Anchor, Chip, Group, Select, Stack } from "@mantine/core";
import { useInfiniteQuery } from "@tanstack/react-query";

import { useEffect, useRef } from "react";

import { api, bodyOf } from "../../api/client";
import { EmptyState } from "../../components/EmptyState";
import { ErrorAlert } from "../../components/ErrorAlert";
import { DayFilter, useFilters } from "../../components/Filters";
import { ListSkeleton } from "../../components/ListSkeleton";
import { LoadMore } from "../../components/LoadMore";
import { Section } from "../../components/Section";
import { startOfDay } from "../../logic/dates";
import { keysOf, oneOf, someOf } from "../../logic/filters";
import { KINDS } from "./labels";
import { TimelineItem } from "./TimelineItem";

const FIRST: string | null = null;
const SIZES = ["25", "50", "100", "200"] as const;

/** All events of an account, newest first. */
export function Timeline({ accountId }: { accountId: string }) {
  const { params, get, set } = useFilters();
  const kinds = someOf(params.getAll("kind"), keysOf(KINDS));
  const size = oneOf(get("size"), SIZES) ?? SIZES[0];
  const until = startOfDay(get("until") ?? "", 1);
  const interaction = get("interaction");
  const filters = { kind: kinds, limit: Number(size), until, interaction_id: interaction };
  const query = useInfiniteQuery({
    queryKey: ["timeline", accountId, filters],
    initialPageParam: FIRST,
    queryFn: ({ pageParam, signal }) =>
      bodyOf(
        api.GET("/admin/users/{account_id}/timeline", {
          params: { path: { account_id: accountId }, query: { ...filters, cursor: pageParam } },
          signal,
        }),
      ),
    getNextPageParam: (last) => last.next_cursor,
  });
  const { data, error, refetch } = query;
  const anchor = useRef<HTMLDivElement>(null);
  const isLoaded = data !== undefined;
  useEffect(() => {
    // A link to an interaction scrolls to the timeline instead of the top of the page.
    if (interaction !== null && isLoaded) anchor.current?.scrollIntoView({ block: "start" });
  }, [interaction, isLoaded]);
  const entries = data?.pages.flatMap((page) => page.entries);
  return (
    <Section title="Timeline">
      <div ref={anchor} />
      {interaction !== null && (
        <Alert color="indigo" variant="outline" mb="sm" title="Filtered by interaction" style={{ overflowWrap: "anywhere" }}>
          Charges and tool uses of {interaction}.{" "}
          <Anchor component="button" type="button" size="sm" underline="always" onClick={() => set("interaction", null)}>
            Show full timeline
          </Anchor>
        </Alert>
      )}
      <Group gap="sm" mb="sm" align="flex-end">
        <DayFilter name="until" label="Until" />
        <Select
          label="Entries per page"
          w={{ base: "calc(50% - 6px)", xs: 150 }}
          data={[...SIZES]}
          value={size}
          allowDeselect={false}
          onChange={(chosen) => set("size", chosen)}
        />
      </Group>
      <Chip.Group multiple value={kinds} onChange={(chosen) => set("kind", chosen)}>
        <Group gap="xs" mb="sm" role="group" aria-label="Event types; without a choice, all are shown">
          {keysOf(KINDS).map((kind) => (
            <Chip key={kind} value={kind} size="xs" variant="outline">
              {KINDS[kind]}
            </Chip>
          ))}
        </Group>
      </Chip.Group>
      {error && <ErrorAlert error={error} onRetry={() => void refetch()} />}
      {entries === undefined && !error && <ListSkeleton label="Loading timeline" />}
      {entries?.length === 0 && (
        <EmptyState title={emptyTitle(kinds.length > 0 || until !== null, interaction)}>
          {kinds.length > 0 || until !== null || interaction !== null
            ? "Remove filters to see more entries."
            : "Charges, usage events, credits, money, grants, purchases and admin actions are listed here."}
        </EmptyState>
      )}
      {entries !== undefined && entries.length > 0 && (
        <Stack component="ol" gap={0} m={0} p={0} aria-label="Timeline, newest first">
          {entries.map((entry) => (
            <TimelineItem key={`${entry.kind}-${entry.id}`} entry={entry} accountId={accountId} />
          ))}
        </Stack>
      )}
      <LoadMore query={query} />
    </Section>
  );
}

function emptyTitle(filtered: boolean, interaction: string | null): string {
  if (interaction !== null) return "No charges for this interaction";
  return filtered ? "No matching entries" : "No activity yet";
}
