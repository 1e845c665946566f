import { Text, Tooltip } from "@mantine/core";

import { formatAgo, formatExact, formatLocal, formatUtc } from "../logic/dates";

interface Props {
  at: string | null | undefined;
  /** Show the relative time, with the date on hover. */
  ago?: boolean;
  /** Show seconds. */
  exact?: boolean;
  missing?: string;
}

/** A time in the reader's time zone, in UTC on hover. */
export function Timestamp({ at, ago = false, exact = false, missing = "—" }: Props) {
  if (at === null || at === undefined) {
    return (
      <Text span inherit c="dimmed">
        {missing}
      </Text>
    );
  }
  const label = ago ? `${formatLocal(at)} · ${formatUtc(at)}` : formatUtc(at);
  return (
    <Tooltip label={label} events={{ hover: true, focus: true, touch: true }}>
      <time dateTime={at} style={{ whiteSpace: "nowrap" }}>
        {ago ? formatAgo(at, new Date()) : exact ? formatExact(at) : formatLocal(at)}
      </time>
    </Tooltip>
  );
}
