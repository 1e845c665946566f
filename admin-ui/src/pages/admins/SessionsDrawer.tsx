import { Button, Drawer, Group, Stack, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";

import { api, bodyOf } from "../../api/client";
import type { AdminSession, AdminUser } from "../../api/models";
import { useHasRole, useMe } from "../../api/session";
import { ActionDialog } from "../../components/ActionDialog";
import { EmptyState } from "../../components/EmptyState";
import { ErrorAlert } from "../../components/ErrorAlert";
import { ListSkeleton } from "../../components/ListSkeleton";
import { Tag } from "../../components/Tag";
import { Timestamp } from "../../components/Timestamp";
import { formatLocal } from "../../logic/dates";
import { formatCount } from "../../logic/format";

/** An admin's active sessions. Each admin sees their own; the admin role sees all. */
export function SessionsDrawer({ admin, onClose }: { admin: AdminUser; onClose: () => void }) {
  const [ending, setEnding] = useState<AdminSession | "all" | null>(null);
  const own = useMe().admin_id === admin.admin_id;
  const allowed = useHasRole("admin") || own;
  const path = { admin_id: admin.admin_id };
  const { data, error, refetch } = useQuery({
    queryKey: ["sessions", admin.admin_id],
    queryFn: ({ signal }) => bodyOf(api.GET("/admin/admins/{admin_id}/sessions", { params: { path }, signal })),
    enabled: allowed,
  });
  return (
    <Drawer
      opened
      onClose={onClose}
      position="right"
      title={own ? "Your sessions" : `Sessions of ${admin.email}`}
      closeButtonProps={{ "aria-label": "Close" }}
    >
      <Stack>
        {!allowed && <EmptyState title="Not available for your role">You can only see your own sessions. The sessions of others require the admin role.</EmptyState>}
        {error && <ErrorAlert error={error} onRetry={() => void refetch()} />}
        {allowed && data === undefined && !error && <ListSkeleton label="Loading sessions" lines={3} />}
        {data?.sessions.length === 0 && <EmptyState title="No active sessions">This admin is not signed in.</EmptyState>}
        {data?.sessions.map((session) => (
          <Session key={session.session_id} session={session} onEnd={() => setEnding(session)} />
        ))}
        {data !== undefined && data.sessions.length > 0 && (
          <Button variant="default" onClick={() => setEnding("all")}>
            End all sessions
          </Button>
        )}
      </Stack>
      {ending !== null && (
        <ActionDialog
          title={ending === "all" ? "End all sessions" : "End session"}
          confirmLabel="End"
          danger
          onClose={() => setEnding(null)}
          act={() =>
            bodyOf(
              api.POST("/admin/admins/{admin_id}/sessions/revoke", {
                params: { path, query: ending === "all" ? {} : { session_id: ending.session_id } },
              }),
            )
          }
          done={({ revoked }) => `${formatCount(revoked, "session")} ended`}
        >
          <Text size="sm">
            {ending === "all" ? `${admin.email} is signed out of all browsers` : `${admin.email} is signed out of that browser`}
            {own && (ending === "all" || ending.current) ? ", including this one." : "."} They can sign in again.
          </Text>
        </ActionDialog>
      )}
    </Drawer>
  );
}

function Session({ session, onEnd }: { session: AdminSession; onEnd: () => void }) {
  return (
    <Group justify="space-between" wrap="nowrap" align="flex-start">
      <Stack gap={2} style={{ minWidth: 0 }}>
        <Group gap="xs">
          <Text size="sm" fw={600}>
            {session.address}
          </Text>
          {session.current && <Tag tone="info">This session</Tag>}
        </Group>
        <Text size="xs" c="dimmed" style={{ overflowWrap: "anywhere" }}>
          {session.user_agent || "Unknown browser"}
        </Text>
        <Text size="xs" c="dimmed" component="div">
          Started <Timestamp at={session.created_at} />, expires <Timestamp at={session.expires_at} ago />
        </Text>
      </Stack>
      <Button size="xs" variant="default" flex="none" onClick={onEnd} aria-label={`End session from ${session.address}, started ${formatLocal(session.created_at)}`}>
        End
      </Button>
    </Group>
  );
}
