import "@mantine/charts/styles.css";

import { BarChart, LineChart } from "@mantine/charts";
import { Group, Paper, Stack, Text } from "@mantine/core";

import { formatDay, isToday } from "../logic/ranges";
import { formatTick } from "../logic/ticks";
import type { ChartKind, Series } from "./series";

interface Props<Row> {
  days: Row[];
  dayOf: (row: Row) => string;
  /** The label of a row; absent: rows are days. */
  labelOf?: ((row: Row, short: boolean) => string) | undefined;
  series: Series<Row>[];
  kind: ChartKind;
  /** The values are whole numbers: no fractions on the axis. */
  whole: boolean;
  height?: number;
}

const HEIGHT = 260;
const HEIGHT_OF_ONE = 120;

/** A chart by day or another period. Heights are floats; the tooltip shows each series' exact text. */
export default function TimeChart<Row>({ days, dayOf, labelOf, series, kind, whole, height = HEIGHT }: Props<Row>) {
  const data = days.map((row, index) => ({
    index,
    day: isToday(dayOf(row)) ? "Today" : (labelOf?.(row, true) ?? formatDay(dayOf(row), true)),
    ...Object.fromEntries(series.map(({ name, valueOf }) => [name, valueOf(row)])),
  }));
  if (kind === "multiples") {
    return (
      <Stack gap="xs">
        {series.map((one) => (
          <div key={one.name}>
            <Text size="xs" c="dimmed">
              {one.name}
            </Text>
            <TimeChart days={days} dayOf={dayOf} labelOf={labelOf} series={[one]} kind="line" whole={whole} height={HEIGHT_OF_ONE} />
          </div>
        ))}
      </Stack>
    );
  }
  const tooltip = ({ payload }: { payload?: readonly { payload?: unknown }[] }) => {
    const point = payload?.[0]?.payload as { index: number } | undefined;
    const row = point === undefined ? undefined : days[point.index];
    return row === undefined ? null : <DayTooltip title={labelOf?.(row, false) ?? formatDay(dayOf(row))} today={isToday(dayOf(row))} row={row} series={series} />;
  };
  const common = {
    h: height,
    data,
    dataKey: "day",
    series: series.map(({ name, color }) => ({ name, color })),
    withLegend: series.length > 1,
    legendProps: { verticalAlign: "bottom" as const, itemSorter: null },
    tooltipProps: { content: tooltip, isAnimationActive: false },
    valueFormatter: formatTick,
    xAxisProps: { minTickGap: 24 },
    yAxisProps: { width: 52, allowDecimals: !whole },
  };
  // The chart is not focusable: the table is its accessible form.
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

interface TooltipProps<Row> {
  title: string;
  today: boolean;
  row: Row;
  series: Series<Row>[];
}

function DayTooltip<Row>({ title, today, row, series }: TooltipProps<Row>) {
  return (
    <Paper withBorder shadow="md" px="sm" py="xs">
      <Text size="sm" fw={600}>
        {title}
        {today && ", so far"}
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
