import { Anchor } from "@mantine/core";
import { IconArrowLeft } from "@tabler/icons-react";
import { Link } from "react-router";

/** A link from a detail page to its list. */
export function BackLink({ to, children }: { to: string; children: string }) {
  return (
    <Anchor component={Link} to={to} size="sm" inline>
      <IconArrowLeft size={14} aria-hidden style={{ verticalAlign: "-2px" }} /> {children}
    </Anchor>
  );
}
