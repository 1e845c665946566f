import { Text } from "@mantine/core";

import { api, bodyOf } from "../../api/client";
import type { ApiKey, NewApiKey } from "../../api/models";
import { durationOf } from "../../logic/dates";
import { ActionDialog } from "../../components/ActionDialog";

export type Ending = "rotate" | "revoke";

interface Props {
  ending: Ending;
  apiKey: ApiKey;
  /** How long a key stays valid after rotation. */
  graceS: number;
  onClose: () => void;
  onCreated: (created: NewApiKey) => void;
}

export function EndDialog({ ending, apiKey, graceS, onClose, onCreated }: Props) {
  const request = { params: { path: { key_id: apiKey.key_id } } };
  if (ending === "rotate") {
    return (
      <ActionDialog
        title={`Rotate ${apiKey.name}`}
        confirmLabel="Rotate key"
        onClose={onClose}
        act={() => bodyOf(api.POST("/admin/api-keys/{key_id}/rotate", request))}
        done={null}
        onDone={onCreated}
      >
        <Text size="sm">
          Creates a new key with the same permissions, shown only once. The old key stays valid for {durationOf(graceS)},
          so that you can update the agent, and then expires.
        </Text>
      </ActionDialog>
    );
  }
  return (
    <ActionDialog
      title={`Revoke ${apiKey.name}`}
      confirmLabel="Revoke key"
      danger
      onClose={onClose}
      act={() => bodyOf(api.POST("/admin/api-keys/{key_id}/revoke", request))}
      done={(key) => `${key.name} is revoked`}
    >
      <Text size="sm">
        All requests with this key in the {apiKey.environment} environment are rejected within a second. This cannot be
        undone: callers need a new key. To replace a key without interruption, rotate it instead.
      </Text>
    </ActionDialog>
  );
}
