import { Text } from "@mantine/core";

import { api, bodyOf } from "../../api/client";
import type { ApiKey, NewApiKey } from "../../api/models";
import { durationOf } from "../../logic/dates";
import { ActionDialog } from "../../components/ActionDialog";

export type Ending = "rotate" | "revoke";

interface Props {
  ending: Ending;
  apiKey: ApiKey;
  /** How long a key works on after it is rotated. */
  graceS: number;
  onClose: () => void;
  onMade: (made: NewApiKey) => void;
}

export function EndDialog({ ending, apiKey, graceS, onClose, onMade }: Props) {
  const request = { params: { path: { key_id: apiKey.key_id } } };
  if (ending === "rotate") {
    return (
      <ActionDialog
        title={`Rotate ${apiKey.name}`}
        confirmLabel="Make the successor"
        onClose={onClose}
        act={() => bodyOf(api.POST("/admin/api-keys/{key_id}/rotate", request))}
        done={null}
        onDone={onMade}
      >
        <Text size="sm">
          A new key with the same rights is made and shown once. The old one works for another {durationOf(graceS)}, so
          that the agent can be given the new one, and then ends.
        </Text>
      </ActionDialog>
    );
  }
  return (
    <ActionDialog
      title={`Revoke ${apiKey.name}`}
      confirmLabel="Revoke the key"
      danger
      onClose={onClose}
      act={() => bodyOf(api.POST("/admin/api-keys/{key_id}/revoke", request))}
      done={(key) => `${key.name} is revoked`}
    >
      <Text size="sm">
        Within a second every request with this key is refused, in the {apiKey.environment} environment. It cannot be
        taken back: whoever calls with it needs a new key. To change keys without a gap, rotate instead.
      </Text>
    </ActionDialog>
  );
}
