import { Button, Tooltip, type ButtonProps } from "@mantine/core";
import type { ReactNode } from "react";

import type { Role } from "../api/models";
import { useMay } from "../api/session";
import { neededRole } from "../logic/roles";

interface Props extends ButtonProps {
  needs: Role;
  /** Why it cannot be pressed now, whatever the role; null: it can. */
  blocked?: string | null;
  onClick: () => void;
  children: ReactNode;
}

/** A button that says why it cannot be pressed by everybody. The server decides all the same. */
export function RoleButton({ needs, blocked = null, children, onClick, ...rest }: Props) {
  const allowed = useMay(needs);
  const why = allowed ? blocked : neededRole(needs);
  // aria-disabled and not disabled, so that the keyboard reaches it and hears the reason.
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
