import "@mantine/charts/styles.css";

import { BarChart, LineChart } from "@mantine/charts";
import { Group, Paper, Text } from "@mantine/core";

import { formatDay } from "../logic/ranges";
import type { ChartKind, Series } from "./series";

interface Props<Row> {
  days: Row[];
  dayOf: (row: Row) => string;
  series: Series<Row>[];
  kind: ChartKind;
  /** Whole things are counted: the axis names no parts of them. */
  whole: boolean;
}

const compact = new Intl.NumberFormat("en-GB", { notation: "compact", maximumFractionDigits: 1 });

/** Days from left to right. Heights are drawn from floats; what is read is told by the series as text. */
export default function TimeChart<Row>({ days, dayOf, series, kind, whole }: Props<Row>) {
  const data = days.map((row, index) => ({
    index,
    day: formatDay(dayOf(row), true),
    ...Object.fromEntries(series.map(({ name, valueOf }) => [name, valueOf(row)])),
  }));
  const tooltip = ({ payload }: { payload?: readonly { payload?: unknown }[] }) => {
    const point = payload?.[0]?.payload as { index: number } | undefined;
    const row = point === undefined ? undefined : days[point.index];
    return row === undefined ? null : <Told day={dayOf(row)} row={row} series={series} />;
  };
  const common = {
    h: 260,
    data,
    dataKey: "day",
    series: series.map(({ name, color }) => ({ name, color })),
    withLegend: series.length > 1,
    legendProps: { verticalAlign: "bottom" as const, itemSorter: null },
    tooltipProps: { content: tooltip, isAnimationActive: false },
    valueFormatter: (value: number) => compact.format(value),
    xAxisProps: { minTickGap: 24 },
    yAxisProps: { width: 44, allowDecimals: !whole },
  };
  // The chart takes no focus of its own: its table is for whoever does not see it.
  if (kind !== "line") {
    return (
      <BarChart
        {...common}
        type={kind === "stacked" ? "stacked" : "default"}
        maxBarWidth={32}
        barProps={{ isAnimationActive: false }}
        barChartProps={{ accessibilityLayer: false }}
      />
    );
  }
  return (
    <LineChart
      {...common}
      curveType="monotone"
      withDots={days.length <= 31}
      lineProps={{ isAnimationActive: false }}
      lineChartProps={{ accessibilityLayer: false }}
    />
  );
}

function Told<Row>({ day, row, series }: { day: string; row: Row; series: Series<Row>[] }) {
  return (
    <Paper withBorder shadow="md" px="sm" py="xs">
      <Text size="sm" fw={600}>
        {formatDay(day)}
      </Text>
      {series.map(({ name, textOf }) => (
        <Group key={name} justify="space-between" gap="lg">
          <Text size="sm">{name}</Text>
          <Text size="sm" className="numeric">
            {textOf(row)}
          </Text>
        </Group>
      ))}
    </Paper>
  );
}
