import { Alert, Group, Stack, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";

import { api, bodyOf } from "../../api/client";
import type { PausedKey, User } from "../../api/models";
import { ErrorAlert } from "../../components/ErrorAlert";
import { ReasonDialog } from "../../components/ReasonDialog";
import { RoleButton } from "../../components/RoleButton";
import { Timestamp } from "../../components/Timestamp";

/** In paths: spending by the user's own token, which has no key. */
const WITHOUT_KEY = "-";

/** The API keys whose use by the account the burn-rate brake has paused; hidden when there are none. */
export function PausedKeys({ user }: { user: User }) {
  const [resuming, setResuming] = useState<PausedKey | null>(null);
  const path = { account_id: user.account_id };
  const { data, error, refetch } = useQuery({
    queryKey: ["paused-keys", user.account_id],
    queryFn: ({ signal }) => bodyOf(api.GET("/admin/users/{account_id}/paused-keys", { params: { path }, signal })),
  });
  if (error) return <ErrorAlert error={error} onRetry={() => void refetch()} />;
  if (data === undefined || data.keys.length === 0) return null;
  return (
    <Alert color="orange" variant="outline" title="Paused: the account spent too fast" mb="sm">
      <Stack gap="xs">
        {data.keys.map((key) => (
          <Group key={key.key_id} justify="space-between" gap="xs">
            <Text size="sm" style={{ overflowWrap: "anywhere" }}>
              {nameOf(key)}, since <Timestamp at={key.paused_at} exact />
            </Text>
            <RoleButton needs="support" size="xs" aria-label={`Resume ${nameOf(key)}`} onClick={() => setResuming(key)}>
              Resume
            </RoleButton>
          </Group>
        ))}
      </Stack>
      {resuming !== null && (
        <ReasonDialog
          texts={{
            title: "Resume key",
            confirm: "Resume",
            danger: false,
            consequences: `The account can spend with ${nameOf(resuming)} again. Other accounts were not affected.`,
            done: "The key is resumed",
          }}
          onClose={() => setResuming(null)}
          act={(reason) =>
            bodyOf(
              api.POST("/admin/users/{account_id}/paused-keys/{key_id}/resume", {
                params: { path: { ...path, key_id: resuming.key_id ?? WITHOUT_KEY } },
                body: { reason },
              }),
            )
          }
        />
      )}
    </Alert>
  );
}

function nameOf({ key_id }: PausedKey): string {
  return key_id === null ? "the user's own token" : `API key ${key_id}`;
}
