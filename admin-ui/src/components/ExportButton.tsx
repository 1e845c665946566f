import { Button } from "@mantine/core";
import { IconDownload } from "@tabler/icons-react";

import type { Role } from "../api/models";
import { useHasRole } from "../api/session";
import { pathWith } from "../logic/filters";
import { RoleButton } from "./RoleButton";

interface Props {
  path: string;
  filters: Record<string, string | null | undefined>;
  /** Exports of personal data need the role support. */
  needs?: Role;
}

/** Downloads all rows that match the filters, not only the visible page. The service creates the file. */
export function ExportButton({ path, filters, needs = "viewer" }: Props) {
  const allowed = useHasRole(needs);
  if (!allowed) {
    return (
      <RoleButton needs={needs} leftSection={<IconDownload size={16} aria-hidden />} onClick={() => undefined}>
        Export CSV
      </RoleButton>
    );
  }
  return (
    <Button
      component="a"
      href={pathWith(path, filters)}
      download
      variant="default"
      leftSection={<IconDownload size={16} aria-hidden />}
    >
      Export CSV
    </Button>
  );
}
