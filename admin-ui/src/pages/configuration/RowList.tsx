import { Stack, Text } from "@mantine/core";
import { IconPlus } from "@tabler/icons-react";
import type { ReactNode } from "react";

import { RoleButton } from "../../components/RoleButton";
import { moved } from "../../logic/configuration";
import { RowFrame } from "./RowFrame";
import type { FormProps } from "./section";

/** One row, its errors, and how it is changed. */
export interface RowProps<Row> extends Omit<FormProps<Row>, "draft"> {
  row: Row;
}

interface Props<Row extends { id: number }> extends FormProps<Row[]> {
  /** The word for a row, as in "Add pack" and "New pack". */
  noun: string;
  /** The list's name for screen readers. */
  label: string;
  about: string;
  /** Shown instead of an empty list. */
  none?: string;
  /** Whether the order has a meaning: then rows can be moved. */
  ordered?: boolean;
  /** Return a row's title; empty: the row is new. */
  titleOf: (row: Row) => string;
  markOf?: (rows: Row[], index: number) => ReactNode;
  /** Whether a row cannot be removed. Absent: all can. */
  fixedIn?: (row: Row) => boolean;
  /** Return the values of a new row. */
  fresh: (rows: Row[]) => Omit<Row, "id">;
  fields: (props: RowProps<Row>) => ReactNode;
}

/** A section whose document is a list: its rows, each in a frame, and the button that adds one. */
export function RowList<Row extends { id: number }>(props: Props<Row>) {
  const { draft: rows, set, errorOf, readOnly, noun, label, about, none, ordered = false, titleOf, markOf, fixedIn, fields: Fields } = props;
  const add = () => {
    const id = Math.max(-1, ...rows.map((row) => row.id)) + 1;
    set([...rows, { id, ...props.fresh(rows) } as Row]);
  };
  return (
    <Stack gap="sm" align="flex-start">
      <Text size="sm">{about}</Text>
      {rows.length === 0 && none !== undefined && (
        <Text size="sm" c="dimmed">
          {none}
        </Text>
      )}
      <Stack component={ordered ? "ol" : "ul"} gap="sm" p={0} m={0} w="100%" aria-label={label}>
        {rows.map((row, index) => (
          <RowFrame
            key={row.id}
            title={titleOf(row) || `New ${noun}`}
            mark={markOf?.(rows, index)}
            readOnly={readOnly}
            onRemove={fixedIn?.(row) === true ? undefined : () => set(rows.filter(({ id }) => id !== row.id))}
            {...(ordered && {
              move: {
                up: index === 0 ? undefined : () => set(moved(rows, index, -1)),
                down: index === rows.length - 1 ? undefined : () => set(moved(rows, index, 1)),
              },
            })}
          >
            <Fields
              row={row}
              set={(next) => set(rows.with(index, next))}
              errorOf={(name) => errorOf(`${index}.${name}`)}
              readOnly={readOnly}
            />
          </RowFrame>
        ))}
      </Stack>
      <RoleButton needs="admin" size="xs" leftSection={<IconPlus size={14} aria-hidden />} onClick={add}>
        {`Add ${noun}`}
      </RoleButton>
    </Stack>
  );
}
