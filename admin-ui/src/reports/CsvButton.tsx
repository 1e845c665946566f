import { Button } from "@mantine/core";
import { IconDownload } from "@tabler/icons-react";

import { csvName, toCsv, type Cell } from "../logic/csv";
import { useRange } from "./useRange";

interface Props {
  what: string;
  names: string[];
  /** Absent while loading. */
  rows: (() => Cell[][]) | undefined;
}

/** Exports the loaded rows as a CSV file. */
export function CsvButton({ what, names, rows }: Props) {
  const { environment, from, to } = useRange();
  const save = () => {
    if (rows === undefined) return;
    const url = URL.createObjectURL(new Blob([toCsv(names, rows())], { type: "text/csv;charset=utf-8" }));
    const link = document.createElement("a");
    link.href = url;
    link.download = csvName(what, environment, from, to);
    link.click();
    URL.revokeObjectURL(url);
  };
  return (
    <Button
      size="xs"
      variant="default"
      leftSection={<IconDownload size={14} aria-hidden />}
      disabled={rows === undefined}
      onClick={save}
      aria-label={`Export CSV: ${what}`}
    >
      CSV
    </Button>
  );
}
