import { ActionIcon, Group, Paper, Text, Tooltip } from "@mantine/core";
import { IconArrowDown, IconArrowUp, IconTrash } from "@tabler/icons-react";
import type { ReactNode } from "react";

interface Props {
  title: string;
  mark?: ReactNode;
  readOnly: boolean;
  /** undefined: it cannot be removed. */
  onRemove: (() => void) | undefined;
  /** Absent: the order has no meaning. undefined for a direction: the row is at that end. */
  move?: { up: (() => void) | undefined; down: (() => void) | undefined };
  children: ReactNode;
}

/** A list row with buttons to move and remove it. */
export function RowFrame({ title, mark, readOnly, onRemove, move, children }: Props) {
  return (
    <Paper component="li" withBorder p="sm" style={{ listStyle: "none" }}>
      <Group justify="space-between" mb="xs" gap="xs" wrap="nowrap">
        <Group gap="xs" style={{ minWidth: 0, overflowWrap: "anywhere" }}>
          <Text fw={600} size="sm">
            {title}
          </Text>
          {mark}
        </Group>
        {!readOnly && (
          <Group gap={4} wrap="nowrap">
            {move && (
              <>
                <IconButton label={`Move ${title} up`} onClick={move.up} icon={<IconArrowUp size={16} aria-hidden />} />
                <IconButton label={`Move ${title} down`} onClick={move.down} icon={<IconArrowDown size={16} aria-hidden />} />
              </>
            )}
            {onRemove && <IconButton label={`Remove ${title}`} onClick={onRemove} icon={<IconTrash size={16} aria-hidden />} />}
          </Group>
        )}
      </Group>
      {children}
    </Paper>
  );
}

function IconButton({ label, onClick, icon }: { label: string; onClick: (() => void) | undefined; icon: ReactNode }) {
  return (
    <Tooltip label={label}>
      <ActionIcon variant="default" size={30} aria-label={label} disabled={onClick === undefined} onClick={onClick}>
        {icon}
      </ActionIcon>
    </Tooltip>
  );
}
