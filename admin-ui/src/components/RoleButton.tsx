import { Button, Tooltip, type ButtonProps } from "@mantine/core";
import type { ReactNode } from "react";

import type { Role } from "../api/models";
import { useHasRole } from "../api/session";
import { neededRole } from "../logic/roles";

interface Props extends ButtonProps {
  needs: Role;
  /** Why the action is unavailable for every role; null: it is available. */
  blocked?: string | null;
  onClick: () => void;
  children: ReactNode;
}

/** A button that is disabled with a reason when the role is insufficient. The server enforces roles itself. */
export function RoleButton({ needs, blocked = null, children, onClick, ...rest }: Props) {
  const allowed = useHasRole(needs);
  const why = allowed ? blocked : neededRole(needs);
  // aria-disabled instead of disabled keeps it focusable, so that screen readers announce the reason.
  return (
    <Tooltip label={why} disabled={why === null} events={{ hover: true, focus: true, touch: true }}>
      <Button
        variant="default"
        {...rest}
        data-disabled={why !== null || undefined}
        aria-disabled={why !== null}
        aria-description={why ?? undefined}
        onClick={() => why === null && onClick()}
      >
        {children}
      </Button>
    </Tooltip>
  );
}
