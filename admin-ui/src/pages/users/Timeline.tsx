import { Button, Center, Chip, Group, Stack } from "@mantine/core";
import { useInfiniteQuery } from "@tanstack/react-query";

import { api, bodyOf } from "../../api/client";
import { EmptyState } from "../../components/EmptyState";
import { ErrorAlert } from "../../components/ErrorAlert";
import { useFilters } from "../../components/Filters";
import { ListSkeleton } from "../../components/ListSkeleton";
import { Section } from "../../components/Section";
import { keysOf, someOf } from "../../logic/filters";
import { KINDS } from "./labels";
import { TimelineItem } from "./TimelineItem";

const FIRST: string | null = null;

/** Where the credits went: everything that happened to an account, newest first. */
export function Timeline({ accountId }: { accountId: string }) {
  const { params, set } = useFilters();
  const kinds = someOf(params.getAll("kind"), keysOf(KINDS));
  const { data, error, refetch, hasNextPage, fetchNextPage, isFetchingNextPage } = useInfiniteQuery({
    queryKey: ["timeline", accountId, kinds],
    initialPageParam: FIRST,
    queryFn: ({ pageParam, signal }) =>
      bodyOf(
        api.GET("/admin/users/{account_id}/timeline", {
          params: { path: { account_id: accountId }, query: { kind: kinds, cursor: pageParam, limit: 25 } },
          signal,
        }),
      ),
    getNextPageParam: (last) => last.next_cursor,
  });
  const entries = data?.pages.flatMap((page) => page.entries);
  return (
    <Section title="Timeline">
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
        <EmptyState title={kinds.length > 0 ? "Nothing of this kind" : "Nothing happened yet"}>
          {kinds.length > 0
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
