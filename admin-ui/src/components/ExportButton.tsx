import { Button } from "@mantine/core";
import { IconDownload } from "@tabler/icons-react";

import { pathWith } from "../logic/filters";

/** Everything that the filters leave, as a file made by the service: not only the page that is shown. */
export function ExportButton({ path, filters }: { path: string; filters: Record<string, string | null | undefined> }) {
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
