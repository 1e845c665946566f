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
      title="Invite an admin"
      confirmLabel="Invite"
      blocked={email.includes("@") ? null : "Enter an e-mail address"}
      onClose={onClose}
      act={() => bodyOf(api.POST("/admin/admins", { body: { email: email.trim(), role } }))}
      done={(admin) => `${admin.email} may sign in now. No mail is sent: tell them the address of this page`}
    >
      {(problemOf) => (
        <>
          <TextInput
            label="E-mail address"
            description="The one of the work account that they sign in with"
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
      title={`Change the role of ${admin.email}`}
      confirmLabel="Change the role"
      blocked={role === admin.role ? `Choose another role: ${admin.role} is the present one` : null}
      onClose={onClose}
      act={() => change(admin, { role })}
      done={(changed) => `${changed.email} has the role ${changed.role} now`}
    >
      <RoleField value={role} onChange={setRole} />
      <Text size="sm">It holds at once, also for who is signed in.</Text>
    </ActionDialog>
  );
}

export function LockDialog({ admin, onClose }: { admin: AdminUser; onClose: () => void }) {
  const locks = admin.disabled_at === null;
  return (
    <ActionDialog
      title={locks ? `Lock out ${admin.email}` : `Let ${admin.email} in again`}
      confirmLabel={locks ? "Lock out" : "Let in again"}
      danger={locks}
      onClose={onClose}
      act={() => change(admin, { disabled: locks })}
      done={(changed) => (locks ? `${changed.email} is locked out` : `${changed.email} may sign in again`)}
    >
      <Text size="sm">
        {locks
          ? "Every session of theirs ends at once and they can sign in no more. What they did stays in the audit log."
          : `They may sign in again, with the role ${admin.role}.`}
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
