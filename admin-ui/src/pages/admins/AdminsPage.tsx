import { ActionIcon, Group, Menu, Paper, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { IconDots, IconUserPlus } from "@tabler/icons-react";
import { useState } from "react";

import { api, bodyOf } from "../../api/client";
import type { AdminUser } from "../../api/models";
import { useHasRole, useMe } from "../../api/session";
import { Breakable } from "../../components/Breakable";
import { type Column } from "../../components/DataTable";
import { EmptyState } from "../../components/EmptyState";
import { useFilters } from "../../components/Filters";
import { Page } from "../../components/Page";
import { QueryTable } from "../../components/QueryTable";
import { RoleButton } from "../../components/RoleButton";
import { RoleTag } from "../../components/states";
import { Tag } from "../../components/Tag";
import { Timestamp } from "../../components/Timestamp";
import { InviteDialog, AccessDialog, RoleDialog } from "./AdminDialogs";
import { SessionsDrawer } from "./SessionsDrawer";

type Open = { dialog: "invite" } | { dialog: "role" | "access"; admin: AdminUser } | null;

export function AdminsPage() {
  const { get, set } = useFilters();
  const [open, setOpen] = useState<Open>(null);
  const { data, error, refetch } = useQuery({
    queryKey: ["admins"],
    queryFn: ({ signal }) => bodyOf(api.GET("/admin/admins", { signal })),
  });
  const selected = data?.admins.find(({ admin_id }) => admin_id === get("sessions"));
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
      subtitle="People with access to the back office, and their roles."
      actions={
        <RoleButton needs="admin" variant="filled" leftSection={<IconUserPlus size={16} aria-hidden />} onClick={() => setOpen({ dialog: "invite" })}>
          Invite
        </RoleButton>
      }
    >
      <Paper withBorder p={{ base: "sm", sm: "md" }}>
        <QueryTable
          error={error}
          onRetry={() => void refetch()}
          label="Admins"
          columns={columns}
          rows={data?.admins}
          rowKey={(admin) => admin.admin_id}
          empty={<EmptyState title="No admins">Invite an admin to get started.</EmptyState>}
        />
      </Paper>
      {open?.dialog === "invite" && <InviteDialog onClose={close} />}
      {open?.dialog === "role" && <RoleDialog admin={open.admin} onClose={close} />}
      {open?.dialog === "access" && <AccessDialog admin={open.admin} onClose={close} />}
      {selected && <SessionsDrawer admin={selected} onClose={() => set("sessions", null)} />}
    </Page>
  );
}

const COLUMNS: Column<AdminUser>[] = [
  { name: "Admin", cell: (admin) => <Email admin={admin} /> },
  { name: "Role", cell: (admin) => <RoleCell admin={admin} /> },
  { name: "Invited", cell: (admin) => <Timestamp at={admin.created_at} />, from: "sm" },
];

function RoleCell({ admin }: { admin: AdminUser }) {
  return (
    <Group gap={4}>
      <RoleTag role={admin.role} />
      {admin.disabled_at !== null && <Tag tone="bad">Disabled</Tag>}
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
  onDialog: (dialog: "role" | "access") => void;
  onSessions: () => void;
}

function Actions({ admin, onDialog, onSessions }: ActionsProps) {
  const allowed = useHasRole("admin");
  const own = useMe().admin_id === admin.admin_id;
  return (
    <Menu position="bottom-end">
      <Menu.Target>
        <ActionIcon variant="subtle" color="gray" aria-label={`Actions for ${admin.email}`}>
          <IconDots size={18} aria-hidden />
        </ActionIcon>
      </Menu.Target>
      <Menu.Dropdown>
        {!allowed && <Menu.Label>Changes require the admin role</Menu.Label>}
        <Menu.Item disabled={!allowed && !own} onClick={onSessions}>
          Sessions
        </Menu.Item>
        <Menu.Item disabled={!allowed} onClick={() => onDialog("role")}>
          Change role
        </Menu.Item>
        <Menu.Item
          disabled={!allowed}
          color={admin.disabled_at === null ? "var(--mantine-color-error)" : undefined}
          onClick={() => onDialog("access")}
        >
          {admin.disabled_at === null ? "Disable" : "Enable"}
        </Menu.Item>
      </Menu.Dropdown>
    </Menu>
  );
}
