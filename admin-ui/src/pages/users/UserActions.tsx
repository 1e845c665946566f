import { ActionIcon, Menu, Tooltip } from "@mantine/core";
import { IconDots } from "@tabler/icons-react";
import { useState } from "react";

import type { Role, User } from "../../api/models";
import { useMe } from "../../api/session";
import { RoleButton } from "../../components/RoleButton";
import { atLeast, neededRole } from "../../logic/roles";
import { AdjustDialog } from "./AdjustDialog";
import { StatusDialog, type StatusAction } from "./StatusDialog";

type Open = "adjust" | StatusAction | null;

export function UserActions({ user }: { user: User }) {
  const [open, setOpen] = useState<Open>(null);
  const close = () => setOpen(null);
  return (
    <>
      <RoleButton needs="support" variant="filled" onClick={() => setOpen("adjust")}>
        Adjust credits
      </RoleButton>
      {user.status === "active" ? (
        <RoleButton needs="support" onClick={() => setOpen("suspend")}>
          Suspend
        </RoleButton>
      ) : (
        <RoleButton needs="support" onClick={() => setOpen("reopen")}>
          Reopen
        </RoleButton>
      )}
      <Menu position="bottom-end">
        <Menu.Target>
          <Tooltip label="More actions">
            <ActionIcon variant="default" size={36} aria-label="More actions">
              <IconDots size={18} aria-hidden />
            </ActionIcon>
          </Tooltip>
        </Menu.Target>
        <Menu.Dropdown>
          <Item needs="support" disabled={user.external_id === null} onClick={() => setOpen("revoke-tokens")}>
            Revoke tokens
          </Item>
          {user.status !== "closed" && (
            <Item needs="admin" danger onClick={() => setOpen("close")}>
              Close the account
            </Item>
          )}
        </Menu.Dropdown>
      </Menu>
      {open === "adjust" && <AdjustDialog user={user} onClose={close} />}
      {open !== null && open !== "adjust" && <StatusDialog action={open} user={user} onClose={close} />}
    </>
  );
}

interface ItemProps {
  needs: Role;
  danger?: boolean;
  disabled?: boolean;
  onClick: () => void;
  children: string;
}

function Item({ needs, danger = false, disabled = false, onClick, children }: ItemProps) {
  const may = atLeast(useMe().role, needs);
  return (
    <Menu.Item
      disabled={!may || disabled}
      color={danger ? "var(--mantine-color-error)" : undefined}
      onClick={onClick}
      title={may ? undefined : neededRole(needs)}
    >
      {children}
    </Menu.Item>
  );
}
