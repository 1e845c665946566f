import { Button } from "@mantine/core";
import { IconDownload } from "@tabler/icons-react";

import type { Role } from "../api/models";
import { useMay } from "../api/session";
import { pathWith } from "../logic/filters";
import { RoleButton } from "./RoleButton";

interface Props {
  path: string;
  filters: Record<string, string | null | undefined>;
  /** Exports of people need the role support. */
  needs?: Role;
}

/** Everything that the filters leave, as a file made by the service: not only the page that is shown. */
export function ExportButton({ path, filters, needs = "viewer" }: Props) {
  const may = useMay(needs);
  if (!may) {
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
