import { SegmentedControl } from "@mantine/core";
import { keepPreviousData, useQuery } from "@tanstack/react-query";

import { api, bodyOf } from "../../api/client";
import type { UsageSum } from "../../api/models";
import { useFilters } from "../../components/Filters";
import { formatAmount, formatRoundedAmount } from "../../logic/decimals";
import { keysOf, oneOf } from "../../logic/filters";
import { currenciesIn, filled, INTERVALS, intervalFor, MOST_PERIODS, periodLabel, periodsOf, type UsagePeriod } from "../../logic/usagePeriods";
import { ChartSection } from "../../reports/ChartSection";
import type { ReportColumn } from "../../reports/ReportTable";
import type { Series } from "../../reports/series";
import { count, moneyColor } from "../../reports/usage";
import { useRange } from "../../reports/useRange";
import { useUsageFilters } from "./useUsageFilters";

/** The cost of usage over time, by currency. */
export function UsageChart() {
  const { get, set } = useFilters();
  const range = useRange();
  const filters = useUsageFilters();
  const interval = intervalFor(oneOf(get("interval"), keysOf(INTERVALS)) ?? "day", range);
  const query = { ...filters, interval, limit: MOST_PERIODS };
  const { data, error, refetch } = useQuery({
    queryKey: ["usage", "chart", query],
    queryFn: ({ signal }) => bodyOf(api.GET("/admin/usage/sums", { params: { query }, signal })),
    placeholderData: keepPreviousData,
  });
  const rows = data === undefined ? undefined : filled(data.sums, periodsOf(range, interval));
  const currencies = currenciesIn(rows ?? []);
  return (
    <ChartSection
      title="Cost over time"
      note={data?.next_cursor ? "The range has too many sums for one chart: choose fewer days or a longer interval." : undefined}
      kind="beside"
      days={rows}
      dayOf={({ period }) => (interval === "day" ? period.slice(0, 10) : period)}
      labelOf={({ period }, short) => periodLabel(period, interval, short)}
      series={seriesOf(currencies)}
      columns={[
        {
          name: INTERVALS[interval],
          cell: ({ period }) => periodLabel(period, interval),
          csv: ({ period }) => (interval === "day" ? period.slice(0, 10) : period),
        },
        count<UsagePeriod>("Events", ({ events }) => events),
        { ...count<UsagePeriod>("Refused", ({ refused }) => refused), from: "sm" },
        ...currencies.flatMap((currency) => columnsOf(currency)),
      ]}
      error={error}
      onRetry={() => void refetch()}
      empty={["No cost", "No usage was charged in this period with these filters."]}
      aside={
        <SegmentedControl
          size="xs"
          aria-label="Interval"
          data={keysOf(INTERVALS).map((value) => ({
            value,
            label: INTERVALS[value],
            disabled: intervalFor(value, range) !== value,
          }))}
          value={interval}
          onChange={(value) => set("interval", value === "day" ? null : value)}
        />
      }
    />
  );
}

function seriesOf(currencies: string[]): Series<UsagePeriod>[] {
  const [only] = currencies;
  const cost = currencies.map((currency, index) => series(`Cost ${currency}`, moneyColor(index), currency, (sum) => sum.cost));
  if (only === undefined || currencies.length > 1) return cost;
  return [...cost, series(`List price ${only}`, "gray.6", only, (sum) => sum.provider_cost)];
}

function series(name: string, color: string, currency: string, amountOf: (sum: UsageSum) => string): Series<UsagePeriod> {
  const of = ({ sums }: UsagePeriod) => (sums[currency] === undefined ? "0" : amountOf(sums[currency]));
  return { name, color, valueOf: (row) => Number(of(row)), textOf: (row) => formatAmount(of(row), currency) };
}

function columnsOf(currency: string): ReportColumn<UsagePeriod>[] {
  const column = (name: string, amountOf: (sum: UsageSum) => string): ReportColumn<UsagePeriod> => ({
    name: `${name} ${currency}`,
    numeric: true,
    cell: ({ sums }) => (sums[currency] === undefined ? "—" : formatRoundedAmount(amountOf(sums[currency]), currency, 4)),
    csv: ({ sums }) => (sums[currency] === undefined ? "0" : amountOf(sums[currency])),
  });
  return [column("Cost", ({ cost }) => cost), { ...column("List price", ({ provider_cost }) => provider_cost), from: "sm" }];
}
