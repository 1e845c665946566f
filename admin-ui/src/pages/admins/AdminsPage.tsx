import { ActionIcon, Group, Menu, Paper, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { IconDots, IconUserPlus } from "@tabler/icons-react";
import { useState } from "react";

import { api, bodyOf } from "../../api/client";
import type { AdminUser } from "../../api/models";
import { useMay, useMe } from "../../api/session";
import { Breakable } from "../../components/Breakable";
import { DataTable, type Column } from "../../components/DataTable";
import { EmptyState } from "../../components/EmptyState";
import { ErrorAlert } from "../../components/ErrorAlert";
import { useFilters } from "../../components/Filters";
import { Page } from "../../components/Page";
import { RoleButton } from "../../components/RoleButton";
import { RoleTag } from "../../components/states";
import { Tag } from "../../components/Tag";
import { Timestamp } from "../../components/Timestamp";
import { InviteDialog, LockDialog, RoleDialog } from "./AdminDialogs";
import { SessionsDrawer } from "./SessionsDrawer";

type Open = { dialog: "invite" } | { dialog: "role" | "lock"; admin: AdminUser } | null;

export function AdminsPage() {
  const { get, set } = useFilters();
  const [open, setOpen] = useState<Open>(null);
  const { data, error, refetch } = useQuery({
    queryKey: ["admins"],
    queryFn: ({ signal }) => bodyOf(api.GET("/admin/admins", { signal })),
  });
  const watched = data?.admins.find(({ admin_id }) => admin_id === get("sessions"));
  const close = () => setOpen(null);
  const columns: Column<AdminUser>[] = [
    ...COLUMNS,
    {
      name: "Actions",
      hiddenName: true,
      numeric: true,
      cell: (admin) => (
        <Actions
          admin={admin}
          onDialog={(dialog) => setOpen({ dialog, admin })}
          onSessions={() => set("sessions", admin.admin_id)}
        />
      ),
    },
  ];
  return (
    <Page
      title="Admins"
      subtitle="Who may sign in here, and what they may do."
      actions={
        <RoleButton needs="admin" variant="filled" leftSection={<IconUserPlus size={16} aria-hidden />} onClick={() => setOpen({ dialog: "invite" })}>
          Invite
        </RoleButton>
      }
    >
      <Paper withBorder p={{ base: "sm", sm: "md" }}>
        {error ? (
          <ErrorAlert error={error} onRetry={() => void refetch()} />
        ) : (
          <DataTable
            label="Admins"
            columns={columns}
            rows={data?.admins}
            rowKey={(admin) => admin.admin_id}
            empty={<EmptyState title="No admins">Invite the first one.</EmptyState>}
          />
        )}
      </Paper>
      {open?.dialog === "invite" && <InviteDialog onClose={close} />}
      {open?.dialog === "role" && <RoleDialog admin={open.admin} onClose={close} />}
      {open?.dialog === "lock" && <LockDialog admin={open.admin} onClose={close} />}
      {watched && <SessionsDrawer admin={watched} onClose={() => set("sessions", null)} />}
    </Page>
  );
}

const COLUMNS: Column<AdminUser>[] = [
  { name: "Admin", cell: (admin) => <Email admin={admin} /> },
  { name: "Role", cell: (admin) => <Standing admin={admin} /> },
  { name: "Invited", cell: (admin) => <Timestamp at={admin.created_at} />, from: "sm" },
];

function Standing({ admin }: { admin: AdminUser }) {
  return (
    <Group gap={4}>
      <RoleTag role={admin.role} />
      {admin.disabled_at !== null && <Tag tone="bad">Locked out</Tag>}
    </Group>
  );
}

function Email({ admin }: { admin: AdminUser }) {
  const me = useMe();
  return (
    <Text span size="sm" fw={600} style={{ overflowWrap: "anywhere" }}>
      <Breakable text={admin.email} />
      {admin.admin_id === me.admin_id && (
        <Text span inherit c="dimmed" fw={400}>
          {" "}
          (you)
        </Text>
      )}
    </Text>
  );
}

interface ActionsProps {
  admin: AdminUser;
  onDialog: (dialog: "role" | "lock") => void;
  onSessions: () => void;
}

function Actions({ admin, onDialog, onSessions }: ActionsProps) {
  const may = useMay("admin");
  const own = useMe().admin_id === admin.admin_id;
  return (
    <Menu position="bottom-end">
      <Menu.Target>
        <ActionIcon variant="subtle" color="gray" aria-label={`Actions for ${admin.email}`}>
          <IconDots size={18} aria-hidden />
        </ActionIcon>
      </Menu.Target>
      <Menu.Dropdown>
        {!may && <Menu.Label>Changing admins needs the role admin</Menu.Label>}
        <Menu.Item disabled={!may && !own} onClick={onSessions}>
          Sessions
        </Menu.Item>
        <Menu.Item disabled={!may} onClick={() => onDialog("role")}>
          Change the role
        </Menu.Item>
        <Menu.Item
          disabled={!may}
          color={admin.disabled_at === null ? "var(--mantine-color-error)" : undefined}
          onClick={() => onDialog("lock")}
        >
          {admin.disabled_at === null ? "Lock out" : "Let in again"}
        </Menu.Item>
      </Menu.Dropdown>
    </Menu>
  );
}
