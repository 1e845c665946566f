import { Button, Tooltip, type ButtonProps } from "@mantine/core";
import type { ReactNode } from "react";

import type { Role } from "../api/models";
import { useMay } from "../api/session";
import { neededRole } from "../logic/roles";

interface Props extends ButtonProps {
  needs: Role;
  onClick: () => void;
  children: ReactNode;
}

/** A button that says why it cannot be pressed by everybody. The server decides all the same. */
export function RoleButton({ needs, children, onClick, ...rest }: Props) {
  const may = useMay(needs);
  // aria-disabled and not disabled, so that the keyboard reaches it and hears the reason.
  return (
    <Tooltip label={neededRole(needs)} disabled={may}>
      <Button variant="default" {...rest} data-disabled={!may || undefined} aria-disabled={!may} onClick={() => may && onClick()}>
        {children}
      </Button>
    </Tooltip>
  );
}
