import { Skeleton, Table } from "@mantine/core";
import type { ReactNode } from "react";

import classes from "./DataTable.module.css";

export interface Column<Row> {
  name: string;
  cell: (row: Row) => ReactNode;
  numeric?: boolean;
  /** The narrowest breakpoint that shows the column; absent: always shown. */
  from?: "xs" | "sm" | "md" | "lg" | "xl";
  /** Show the name to screen readers only. */
  hiddenName?: boolean;
}

export interface TableProps<Row> {
  label: string;
  columns: Column<Row>[];
  /** Absent while loading. */
  rows: Row[] | undefined;
  rowKey: (row: Row) => string;
  empty: ReactNode;
  busy?: boolean;
  /** Can be wider than the screen: focusable, so that the keyboard can scroll it. */
  wide?: boolean;
}

export function DataTable<Row>({ label, columns, rows, rowKey, empty, busy = false, wide = false }: TableProps<Row>) {
  if (rows?.length === 0) return empty;
  return (
    <div
      className={classes.frame}
      aria-busy={busy || rows === undefined}
      data-busy={busy || undefined}
      role={wide ? "region" : undefined}
      aria-label={wide ? `${label} table` : undefined}
      // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex -- scrollable content must be reachable by keyboard
      tabIndex={wide ? 0 : undefined}
    >
      <Table verticalSpacing="xs" highlightOnHover aria-label={label} className={classes.table}>
        <Table.Thead>
          <Table.Tr>
            {columns.map((column) => (
              <Table.Th key={column.name} scope="col" visibleFrom={column.from} ta={column.numeric ? "right" : undefined}>
                {column.hiddenName ? <span className={classes.hidden}>{column.name}</span> : column.name}
              </Table.Th>
            ))}
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {rows === undefined
            ? Array.from({ length: 8 }, (_, index) => <SkeletonRow key={index} columns={columns} />)
            : rows.map((row) => (
                <Table.Tr key={rowKey(row)}>
                  {columns.map((column) => (
                    <Table.Td
                      key={column.name}
                      visibleFrom={column.from}
                      ta={column.numeric ? "right" : undefined}
                      className={column.numeric ? "numeric" : undefined}
                    >
                      {column.cell(row)}
                    </Table.Td>
                  ))}
                </Table.Tr>
              ))}
        </Table.Tbody>
      </Table>
    </div>
  );
}

function SkeletonRow<Row>({ columns }: { columns: Column<Row>[] }) {
  return (
    <Table.Tr aria-hidden>
      {columns.map((column) => (
        <Table.Td key={column.name} visibleFrom={column.from}>
          <Skeleton height={12} my={5} width={column.numeric ? "50%" : "80%"} ml={column.numeric ? "auto" : 0} />
        </Table.Td>
      ))}
    </Table.Tr>
  );
}
