import { Button, Group, Text } from "@mantine/core";
import { useInfiniteQuery, useQuery } from "@tanstack/react-query";

import { api, bodyOf } from "../../api/client";
import type { ConfigSection, ConfigVersion } from "../../api/models";
import { Diff } from "../../components/Diff";
import { ErrorAlert } from "../../components/ErrorAlert";
import { ListSkeleton } from "../../components/ListSkeleton";
import { RoleButton } from "../../components/RoleButton";
import { Section } from "../../components/Section";
import { Tag } from "../../components/Tag";
import { Timestamp } from "../../components/Timestamp";
import { factsOf } from "../../logic/configuration";
import type { Facts } from "../../logic/diff";
import { humanizeFacts } from "../../logic/fieldLabels";
import classes from "./History.module.css";
import { SECTIONS } from "./labels";

const PAGE = 20;

interface Props {
  section: ConfigSection;
  current: number;
  /** Absent: versions of this section cannot be restored. */
  onUse?: (version: number, document: Facts) => void;
}

/** All versions with author, time, reason and changes. */
export function History({ section, current, onUse }: Props) {
  const { data, error, refetch, hasNextPage, fetchNextPage, isFetchingNextPage } = useInfiniteQuery({
    queryKey: ["configuration", section, "versions"],
    queryFn: ({ pageParam: cursor, signal }) =>
      bodyOf(
        api.GET("/admin/config/{section}/versions", {
          params: { path: { section }, query: { limit: PAGE, cursor } },
          signal,
        }),
      ),
    initialPageParam: null as number | null,
    getNextPageParam: (page) => page.next_cursor,
  });
  // Before the first version and after a reset, the server settings applied.
  const settings = useQuery({
    queryKey: ["configuration", section, "settings"],
    queryFn: ({ signal }) => bodyOf(api.GET("/admin/config/{section}/settings", { params: { path: { section } }, signal })),
  });
  const versions = data?.pages.flatMap((page) => page.versions) ?? [];
  return (
    <Section title={`History: ${SECTIONS[section]}`}>
      {error && <ErrorAlert error={error} onRetry={() => void refetch()} />}
      {data === undefined && !error && <ListSkeleton label="Loading versions" lines={3} />}
      {data !== undefined && versions.length === 0 && (
        <Text size="sm" c="dimmed">
          No changes yet. {onUse ? "Changes are listed here and can be restored." : "Changes are listed here."}
        </Text>
      )}
      <ol className={classes.list}>
        {versions.map((version, index) => (
          <Item
            key={version.version}
            version={version}
            before={versions[index + 1]}
            settings={settings.data?.document ?? null}
            isCurrent={version.version === current}
            onUse={onUse}
          />
        ))}
      </ol>
      {hasNextPage && (
        <Button variant="default" size="xs" mt="sm" loading={isFetchingNextPage} onClick={() => void fetchNextPage()}>
          Older versions
        </Button>
      )}
    </Section>
  );
}

interface ItemProps {
  version: ConfigVersion;
  before: ConfigVersion | undefined;
  /** The current server settings; their history is not kept. */
  settings: Facts | null;
  isCurrent: boolean;
  onUse: Props["onUse"];
}

function Item({ version, before, settings, isCurrent, onUse }: ItemProps) {
  const { document } = version;
  const overSettings = before === undefined ? version.version === 1 : before.document === null;
  const earlier = overSettings ? settings : (before?.document ?? null);
  const unknown = before === undefined && version.version > 1;
  return (
    <li className={classes.item}>
      <Group justify="space-between" gap="xs" align="flex-start">
        <Group gap="xs">
          <Text span size="sm" fw={600}>
            Version {version.version}
          </Text>
          {isCurrent && <Tag tone="good">Current</Tag>}
        </Group>
        {onUse !== undefined && !isCurrent && document !== null && (
          <RoleButton needs="admin" size="compact-xs" onClick={() => onUse(version.version, document)}>
            Restore this version
          </RoleButton>
        )}
      </Group>
      <Text size="xs" c="dimmed" component="div" style={{ overflowWrap: "anywhere" }}>
        {version.changed_by} · <Timestamp at={version.changed_at} />
      </Text>
      <Text size="sm" component="blockquote" className={classes.reason}>
        {version.reason}
      </Text>
      {document === null || unknown ? (
        <Text size="xs" c="dimmed" mt={4}>
          {document === null ? "Reset to server settings" : "Load older versions to see its changes."}
        </Text>
      ) : (
        <>
          <Diff removals before={humanizeFacts(factsOf(earlier))} after={humanizeFacts(factsOf(document))} />
          {overSettings && earlier !== null && (
            <Text size="xs" c="dimmed" mt={4}>
              Compared with the current server settings.
            </Text>
          )}
        </>
      )}
    </li>
  );
}
