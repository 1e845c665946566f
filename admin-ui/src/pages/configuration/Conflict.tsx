import { Alert, Button, Group, Stack, Text } from "@mantine/core";
import { IconArrowsSplit } from "@tabler/icons-react";

import type { SectionState } from "../../api/models";
import { Diff } from "../../components/Diff";
import type { Facts } from "../../logic/diff";
import { humanizeFacts } from "../../logic/fieldLabels";
import { WhoAndWhy } from "./State";

interface Props {
  current: SectionState;
  before: Facts;
  theirs: Facts;
  /** null: what was typed cannot be read yet. */
  mine: Facts | null;
  onKeep: () => void;
  onDrop: () => void;
}

/** Two people at once: shows both changes and lets the second decide. */
export function Conflict({ current, before, theirs, mine, onKeep, onDrop }: Props) {
  return (
    <Alert
      color="orange"
      variant="outline"
      role="alert"
      icon={<IconArrowsSplit aria-hidden />}
      title="Somebody changed this while you were typing"
    >
      <Stack gap="sm" align="flex-start">
        <Text size="sm">What you typed is still below; nothing of it is saved.</Text>
        <WhoAndWhy state={current} />
        <div>
          <Text size="sm" fw={600}>
            What they changed
          </Text>
          <Diff removals before={humanizeFacts(before)} after={humanizeFacts(theirs)} />
        </div>
        {mine !== null && (
          <div>
            <Text size="sm" fw={600}>
              What yours would change of it
            </Text>
            <Diff removals before={humanizeFacts(theirs)} after={humanizeFacts(mine)} />
          </div>
        )}
        <Group gap="xs">
          <Button size="xs" variant="default" onClick={onKeep}>
            Go on with mine
          </Button>
          <Button size="xs" variant="default" onClick={onDrop}>
            Take theirs, drop mine
          </Button>
        </Group>
      </Stack>
    </Alert>
  );
}
