import { DataTable, type TableProps } from "./DataTable";
import { ErrorAlert } from "./ErrorAlert";

interface Props<Row> extends TableProps<Row> {
  error: Error | null;
  onRetry: () => void;
}

/** A table of a query's rows, or the query's error with a retry button. */
export function QueryTable<Row>({ error, onRetry, ...table }: Props<Row>) {
  return error ? <ErrorAlert error={error} onRetry={onRetry} /> : <DataTable {...table} />;
}
