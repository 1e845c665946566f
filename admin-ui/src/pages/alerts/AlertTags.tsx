import { Group } from "@mantine/core";

import type { Alert } from "../../api/models";
import { Tag, type Tone } from "../../components/Tag";
import { STATUSES, STOPPED } from "./labels";

const STATUS: Record<Alert["status"], Tone> = { open: "warn", acted: "info", dismissed: "quiet" };

export function AlertTags({ alert }: { alert: Alert }) {
  return (
    <Group gap={4}>
      <Tag tone={STATUS[alert.status]}>{STATUSES[alert.status]}</Tag>
      {alert.stopped !== null && <Tag tone="bad">{STOPPED[alert.stopped]}</Tag>}
    </Group>
  );
}
