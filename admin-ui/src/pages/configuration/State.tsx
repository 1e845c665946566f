import { Text } from "@mantine/core";

import type { SectionState } from "../../api/models";
import { Tag } from "../../components/Tag";
import { Timestamp } from "../../components/Timestamp";

export function SourceTag({ state }: { state: SectionState }) {
  return state.source === "admin" ? <Tag tone="info">Customized</Tag> : <Tag tone="quiet">Server settings</Tag>;
}

export function LastChange({ state }: { state: SectionState }) {
  if (state.changed_at === null) {
    return (
      <Text size="sm" c="dimmed">
        Not changed here: the server settings apply.
      </Text>
    );
  }
  return (
    <Text size="sm" c="dimmed" style={{ overflowWrap: "anywhere" }} component="div">
      Version {state.version} · {state.changed_by} · <Timestamp at={state.changed_at} />
      {state.reason !== null && <> · “{state.reason}”</>}
    </Text>
  );
}
