import { Radio, Stack, Text, TextInput } from "@mantine/core";
import { useState } from "react";

import { api, bodyOf } from "../../api/client";
import type { AdminUser, Role } from "../../api/models";
import { ActionDialog } from "../../components/ActionDialog";
import { ROLES } from "../../logic/roles";

export function InviteDialog({ onClose }: { onClose: () => void }) {
  const [email, setEmail] = useState("");
  const [role, setRole] = useState<Role>("viewer");
  return (
    <ActionDialog
      title="Invite admin"
      confirmLabel="Invite"
      blocked={email.includes("@") ? null : "Enter an e-mail address"}
      onClose={onClose}
      act={() => bodyOf(api.POST("/admin/admins", { body: { email: email.trim(), role } }))}
      done={(admin) => `${admin.email} can sign in now. No e-mail is sent: share the address of this page`}
    >
      {(problemOf) => (
        <>
          <TextInput
            label="E-mail address"
            description="Address of their work account"
            type="email"
            required
            maxLength={254}
            data-autofocus
            value={email}
            error={problemOf("email")}
            onChange={({ currentTarget }) => setEmail(currentTarget.value)}
          />
          <RoleField value={role} onChange={setRole} />
        </>
      )}
    </ActionDialog>
  );
}

export function RoleDialog({ admin, onClose }: { admin: AdminUser; onClose: () => void }) {
  const [role, setRole] = useState<Role>(admin.role);
  return (
    <ActionDialog
      title={`Change role of ${admin.email}`}
      confirmLabel="Change role"
      blocked={role === admin.role ? `Choose a different role: the current one is ${admin.role}` : null}
      onClose={onClose}
      act={() => change(admin, { role })}
      done={(changed) => `${changed.email} now has the ${changed.role} role`}
    >
      <RoleField value={role} onChange={setRole} />
      <Text size="sm">Takes effect immediately, including for active sessions.</Text>
    </ActionDialog>
  );
}

export function AccessDialog({ admin, onClose }: { admin: AdminUser; onClose: () => void }) {
  const disables = admin.disabled_at === null;
  return (
    <ActionDialog
      title={disables ? `Disable ${admin.email}` : `Enable ${admin.email}`}
      confirmLabel={disables ? "Disable" : "Enable"}
      danger={disables}
      onClose={onClose}
      act={() => change(admin, { disabled: disables })}
      done={(changed) => (disables ? `${changed.email} is disabled` : `${changed.email} can sign in again`)}
    >
      <Text size="sm">
        {disables
          ? "Their sessions end immediately and they can no longer sign in. Their audit log entries are kept."
          : `They can sign in again with the ${admin.role} role.`}
      </Text>
    </ActionDialog>
  );
}

function change(admin: AdminUser, body: { role: Role } | { disabled: boolean }) {
  return bodyOf(api.PATCH("/admin/admins/{admin_id}", { params: { path: { admin_id: admin.admin_id } }, body }));
}

function RoleField({ value, onChange }: { value: Role; onChange: (role: Role) => void }) {
  return (
    <Radio.Group label="Role" value={value} onChange={(chosen) => onChange(ROLES.find((r) => r.value === chosen)?.value ?? value)}>
      <Stack gap={8} mt={6}>
        {ROLES.map((role) => (
          <Radio key={role.value} value={role.value} label={role.label} description={role.description} />
        ))}
      </Stack>
    </Radio.Group>
  );
}
