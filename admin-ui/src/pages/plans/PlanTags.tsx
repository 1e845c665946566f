import { Group } from "@mantine/core";

import type { PlanDocument } from "../../api/models";
import { Tag } from "../../components/Tag";

/** Whether a plan is sold, and how. */
export function PlanTags({ plan }: { plan: PlanDocument }) {
  return (
    <Group gap={4}>
      {plan.withdrawn ? <Tag tone="warn">Withdrawn</Tag> : <Tag tone="good">For sale</Tag>}
      {plan.visibility === "hidden" && <Tag tone="quiet">Hidden</Tag>}
      {plan.by_agreement && <Tag tone="info">By agreement</Tag>}
    </Group>
  );
}
