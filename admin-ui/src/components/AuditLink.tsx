import { Anchor } from "@mantine/core";
import { Link } from "react-router";

import { pathWith } from "../logic/filters";

interface Props {
  targetType: string;
  targetId: string;
  size?: "xs" | "sm";
  children?: string;
}

/** A link to a target's entries in the audit log. */
export function AuditLink({ targetType, targetId, size = "sm", children = "Audit log" }: Props) {
  return (
    <Anchor component={Link} size={size} underline="always" to={pathWith("/audit", { target_type: targetType, target_id: targetId })}>
      {children}
    </Anchor>
  );
}
