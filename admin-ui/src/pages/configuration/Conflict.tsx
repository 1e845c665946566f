import { Alert, Button, Group, Stack, Text } from "@mantine/core";
import { IconArrowsSplit } from "@tabler/icons-react";

import type { SectionState } from "../../api/models";
import { Diff } from "../../components/Diff";
import type { Facts } from "../../logic/diff";
import { humanizeFacts } from "../../logic/fieldLabels";
import { LastChange } from "./State";

interface Props {
  current: SectionState;
  before: Facts;
  theirs: Facts;
  /** null: the typed values are not valid yet. */
  mine: Facts | null;
  onKeep: () => void;
  onDrop: () => void;
}

/** A write conflict: shows both changes, and lets the second admin decide. */
export function Conflict({ current, before, theirs, mine, onKeep, onDrop }: Props) {
  return (
    <Alert
      color="orange"
      variant="outline"
      role="alert"
      icon={<IconArrowsSplit aria-hidden />}
      title="Another admin changed this while you were editing"
    >
      <Stack gap="sm" align="flex-start">
        <Text size="sm">Your edits are kept below and have not been saved.</Text>
        <LastChange state={current} />
        <div>
          <Text size="sm" fw={600}>
            Their changes
          </Text>
          <Diff removals before={humanizeFacts(before)} after={humanizeFacts(theirs)} />
        </div>
        {mine !== null && (
          <div>
            <Text size="sm" fw={600}>
              Your changes compared with theirs
            </Text>
            <Diff removals before={humanizeFacts(theirs)} after={humanizeFacts(mine)} />
          </div>
        )}
        <Group gap="xs">
          <Button size="xs" variant="default" onClick={onKeep}>
            Keep my changes
          </Button>
          <Button size="xs" variant="default" onClick={onDrop}>
            Discard my changes
          </Button>
        </Group>
      </Stack>
    </Alert>
  );
}
