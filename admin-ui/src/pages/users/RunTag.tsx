import { Stack, Text } from "@mantine/core";

import type { Run } from "../../api/models";
import { Tag, type Tone } from "../../components/Tag";
import { RUN_STATUSES } from "../../logic/runs";

const TONES: Record<Run["status"], Tone> = { open: "good", paused: "warn", closed: "quiet" };

export function RunTag({ run: { status, pause_reason } }: { run: Pick<Run, "status" | "pause_reason"> }) {
  return (
    <Stack gap={0} align="flex-start">
      <Tag tone={TONES[status]}>{RUN_STATUSES[status]}</Tag>
      {status === "paused" && pause_reason === "burn_rate" && (
        <Text size="xs" c="dimmed">
          spent too fast
        </Text>
      )}
    </Stack>
  );
}
