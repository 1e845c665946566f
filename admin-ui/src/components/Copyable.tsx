import { ActionIcon, Code, CopyButton, Group, Tooltip } from "@mantine/core";
import { IconCheck, IconCopy } from "@tabler/icons-react";

import { shortId } from "../logic/format";

export function CopyIcon({ value, label }: { value: string; label: string }) {
  return (
    <CopyButton value={value} timeout={1500}>
      {({ copied, copy }) => (
        <Tooltip label={copied ? "Copied" : label}>
          <ActionIcon variant="subtle" color="gray" size="sm" onClick={copy} aria-label={copied ? "Copied" : label}>
            {copied ? <IconCheck size={14} aria-hidden /> : <IconCopy size={14} aria-hidden />}
          </ActionIcon>
        </Tooltip>
      )}
    </CopyButton>
  );
}

/** An id with a copy button; `short` shows only its beginning and end. */
export function Copyable({ value, what, short = false }: { value: string; what: string; short?: boolean }) {
  return (
    <Group gap={4} wrap="nowrap" component="span" display="inline-flex">
      <Code title={value} style={short ? { whiteSpace: "nowrap" } : { overflowWrap: "anywhere" }}>
        {short ? shortId(value) : value}
      </Code>
      <CopyIcon value={value} label={`Copy ${what}`} />
    </Group>
  );
}
