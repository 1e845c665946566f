import { Button, Text } from "@mantine/core";
import { useState, type ReactNode } from "react";

import { DataTable, type Column } from "../components/DataTable";
import { EmptyState } from "../components/EmptyState";
import { ErrorAlert } from "../components/ErrorAlert";
import { Section } from "../components/Section";
import type { Cell } from "../logic/csv";
import { CsvButton } from "./CsvButton";

const FIRST = 10;

export interface ReportColumn<Row> extends Column<Row> {
  /** The value in the exported file; absent: the column is not exported. */
  csv?: (row: Row) => Cell;
  /** Only in the exported file, not in the table. */
  exportOnly?: boolean;
}

interface Props<Row> {
  title: string;
  /** Explains the numbers, if their names do not. */
  note?: string;
  /** A summary above the table. */
  lead?: ReactNode;
  columns: ReportColumn<Row>[];
  rows: Row[] | undefined;
  rowKey: (row: Row) => string;
  busy: boolean;
  error: Error | null;
  onRetry: () => void;
  /** Title and text without rows. */
  empty: [string, ReactNode];
  aside?: ReactNode;
  /** Show all rows: the server has paged them. */
  paged?: boolean;
  children?: ReactNode;
}

export function ReportTable<Row>(props: Props<Row>) {
  const { title, note, columns, rows, error, aside, paged = false } = props;
  const [all, setAll] = useState(false);
  const shown = paged || all ? rows : rows?.slice(0, FIRST);
  const more = (rows?.length ?? 0) - (shown?.length ?? 0);
  return (
    <Section
      title={title}
      aside={
        <>
          {aside}
          <CsvButton what={title} {...csvOf(columns, rows)} />
        </>
      }
    >
      {note !== undefined && (
        <Text size="xs" c="dimmed" mb="xs">
          {note}
        </Text>
      )}
      {props.lead}
      {error ? (
        <ErrorAlert error={error} onRetry={props.onRetry} />
      ) : (
        <DataTable
          label={title}
          columns={columns.filter(({ exportOnly }) => !exportOnly)}
          rows={shown}
          rowKey={props.rowKey}
          busy={props.busy}
          wide
          empty={<EmptyState title={props.empty[0]}>{props.empty[1]}</EmptyState>}
        />
      )}
      {more > 0 && (
        <Button variant="subtle" size="xs" mt="xs" onClick={() => setAll(true)}>
          Show {more} more
        </Button>
      )}
      {props.children}
    </Section>
  );
}

export function csvOf<Row>(columns: ReportColumn<Row>[], rows: Row[] | undefined) {
  const exported = columns.flatMap(({ name, csv }) => (csv === undefined ? [] : [{ name, csv }]));
  return {
    names: exported.map(({ name }) => name),
    rows: rows === undefined ? undefined : () => rows.map((row) => exported.map(({ csv }) => csv(row))),
  };
}
