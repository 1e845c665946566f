import { SegmentedControl, Skeleton, Text } from "@mantine/core";
import { lazy, Suspense, useState, type ReactNode } from "react";

import { DataTable } from "../components/DataTable";
import { EmptyState } from "../components/EmptyState";
import { ErrorAlert } from "../components/ErrorAlert";
import { Section } from "../components/Section";
import { CsvButton } from "./CsvButton";
import { csvOf, type ReportColumn } from "./ReportTable";
import { isToday } from "../logic/ranges";
import type { ChartKind, Series } from "./series";

// The charts library is half of the bundle: load it only when a chart is shown.
const TimeChart = lazy(() => import("./TimeChart")) as typeof import("./TimeChart").default;

interface Props<Row> {
  title: string;
  note?: string | undefined;
  kind: ChartKind;
  whole?: boolean;
  days: Row[] | undefined;
  dayOf: (row: Row) => string;
  /** The label of a row in the chart; absent: rows are days. */
  labelOf?: (row: Row, short: boolean) => string;
  series: Series<Row>[];
  columns: ReportColumn<Row>[];
  error: Error | null;
  onRetry: () => void;
  empty: [string, ReactNode];
  aside?: ReactNode;
}

/** A report as a chart, a table and a CSV file. */
export function ChartSection<Row>(props: Props<Row>) {
  const { title, note, days, dayOf, series, columns } = props;
  const [view, setView] = useState("chart");
  const nothing = days?.every((row) => series.every(({ valueOf }) => valueOf(row) === 0)) ?? false;
  return (
    <Section
      title={title}
      aside={
        <>
          {props.aside}
          <SegmentedControl
            size="xs"
            aria-label={`${title}: view`}
            data={[
              { value: "chart", label: "Chart" },
              { value: "table", label: "Table" },
            ]}
            value={view}
            onChange={setView}
          />
          <CsvButton what={title} {...csvOf(columns, days)} />
        </>
      }
    >
      {note !== undefined && (
        <Text size="xs" c="dimmed" mb="xs">
          {note}
        </Text>
      )}
      {days !== undefined && days.some((row) => isToday(dayOf(row))) && (
        <Text size="xs" c="dimmed" mb="xs">
          Today (UTC) is incomplete: its figures are up to now.
        </Text>
      )}
      {props.error ? (
        <ErrorAlert error={props.error} onRetry={props.onRetry} />
      ) : days === undefined ? (
        <Skeleton height={260} aria-busy aria-label="Loading" />
      ) : nothing ? (
        <EmptyState title={props.empty[0]}>{props.empty[1]}</EmptyState>
      ) : view === "table" ? (
        <DataTable label={title} columns={columns} rows={days.toReversed()} rowKey={dayOf} empty={null} wide />
      ) : (
        <div role="img" aria-label={`${title}: chart of ${series.map(({ name }) => name).join(", ")} over time. Choose “Table” for the numbers.`}>
          <Suspense fallback={<Skeleton height={260} />}>
            <TimeChart days={days} dayOf={dayOf} labelOf={props.labelOf} series={series} kind={props.kind} whole={props.whole ?? false} />
          </Suspense>
        </div>
      )}
    </Section>
  );
}
