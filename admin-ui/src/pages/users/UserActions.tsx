import { ActionIcon, Menu, Tooltip } from "@mantine/core";
import { IconDots } from "@tabler/icons-react";
import { useState } from "react";
import { Link } from "react-router";

import type { Role, User } from "../../api/models";
import { useHasRole, useMe } from "../../api/session";
import { RoleButton } from "../../components/RoleButton";
import { pathWith } from "../../logic/filters";
import { atLeast, neededRole } from "../../logic/roles";
import { AdjustDialog } from "./AdjustDialog";
import { EraseDialog } from "./EraseDialog";
import { StatusDialog, type StatusAction } from "./StatusDialog";

type Open = "adjust" | "erase" | StatusAction | null;

export function UserActions({ user }: { user: User }) {
  const [open, setOpen] = useState<Open>(null);
  const close = () => setOpen(null);
  const mayExport = useHasRole("support");
  return (
    <>
      {user.erased_at === null && <Changes user={user} onChoose={setOpen} />}
      <Menu position="bottom-end">
        <Menu.Target>
          <Tooltip label="More actions">
            <ActionIcon variant="default" size={36} aria-label="More actions">
              <IconDots size={18} aria-hidden />
            </ActionIcon>
          </Tooltip>
        </Menu.Target>
        <Menu.Dropdown>
          <Item needs="support" blocked={user.external_id === null ? "The person was erased and has no tokens" : null} onClick={() => setOpen("revoke-tokens")}>
            Revoke tokens
          </Item>
          <Menu.Item
            component="a"
            href={`/admin/users/${user.account_id}/export`}
            download
            disabled={!mayExport}
            title={mayExport ? undefined : neededRole("support")}
          >
            Export all data
          </Menu.Item>
          <Menu.Item component={Link} to={pathWith("/refusals", { account_id: user.account_id })}>
            Refused requests
          </Menu.Item>
          {user.status !== "closed" && (
            <Item needs="admin" onClick={() => setOpen(user.billing_enabled ? "stop-billing" : "resume-billing")}>
              {user.billing_enabled ? "Stop billing usage" : "Resume billing usage"}
            </Item>
          )}
          {user.status !== "closed" && (
            <Item needs="admin" danger onClick={() => setOpen("close")}>
              Close account
            </Item>
          )}
          {user.erased_at === null && (
            <Item needs="admin" danger onClick={() => setOpen("erase")}>
              Erase person
            </Item>
          )}
        </Menu.Dropdown>
      </Menu>
      {open === "adjust" && <AdjustDialog user={user} onClose={close} />}
      {open === "erase" && <EraseDialog user={user} onClose={close} />}
      {open !== null && open !== "adjust" && open !== "erase" && <StatusDialog action={open} user={user} onClose={close} />}
    </>
  );
}

function Changes({ user, onChoose }: { user: User; onChoose: (open: Open) => void }) {
  return (
    <>
      <RoleButton needs="support" variant="filled" onClick={() => onChoose("adjust")}>
        Adjust credits
      </RoleButton>
      {user.status === "active" ? (
        <RoleButton needs="support" onClick={() => onChoose("suspend")}>
          Suspend
        </RoleButton>
      ) : (
        <RoleButton needs="support" onClick={() => onChoose("reopen")}>
          Reopen
        </RoleButton>
      )}
    </>
  );
}

interface ItemProps {
  needs: Role;
  danger?: boolean;
  /** Why the action is unavailable for every role; null: it is available. */
  blocked?: string | null;
  onClick: () => void;
  children: string;
}

function Item({ needs, danger = false, blocked = null, onClick, children }: ItemProps) {
  const allowed = atLeast(useMe().role, needs);
  return (
    <Menu.Item
      disabled={!allowed || blocked !== null}
      color={danger ? "var(--mantine-color-error)" : undefined}
      onClick={onClick}
      title={allowed ? (blocked ?? undefined) : neededRole(needs)}
    >
      {children}
    </Menu.Item>
  );
}
