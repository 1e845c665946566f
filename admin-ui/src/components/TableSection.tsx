import type { ReactNode } from "react";

import { DataTable, type TableProps } from "./DataTable";
import { Section } from "./Section";

interface Props<Row> extends Omit<TableProps<Row>, "label" | "empty"> {
  title: string;
  aside?: ReactNode;
  empty?: ReactNode;
  /** Content below the table. */
  children?: ReactNode;
}

/** A section that consists of one table. */
export function TableSection<Row>({ title, aside, empty = null, children, ...table }: Props<Row>) {
  return (
    <Section title={title} aside={aside}>
      <DataTable label={title} empty={empty} {...table} />
      {children}
    </Section>
  );
}
