import { SimpleGrid } from "@mantine/core";

import { api, bodyOf } from "../../api/client";
import type { Day } from "../../api/models";
import { ErrorAlert } from "../../components/ErrorAlert";
import { Page } from "../../components/Page";
import { moneyCurrenciesOf } from "../../logic/money";
import { ChartSection } from "../../reports/ChartSection";
import { moneyColumns, usageCostSeries } from "../../reports/money";
import { RangeBar } from "../../reports/RangeBar";
import { salesColumns, count, countSeries, currenciesOf, dayColumn, salesSeries, spentOf } from "../../reports/usage";
import { useReport } from "../../reports/useReport";
import { Attention } from "./Attention";
import { KeyFigures } from "./KeyFigures";
import { CurrentTotals } from "./CurrentTotals";

export function OverviewPage() {
  const overview = useReport(["analytics", "overview"], (query, signal) =>
    bodyOf(api.GET("/admin/analytics/overview", { params: { query }, signal })),
  );
  const daily = useReport(["analytics", "daily"], (query, signal) =>
    bodyOf(api.GET("/admin/analytics/daily", { params: { query }, signal })),
  );
  const days = daily.data?.days;
  const currencies = currenciesOf(days ?? []);
  const moneyCurrencies = moneyCurrenciesOf(days ?? []);
  const chart = {
    days,
    dayOf: ({ day }: { day: string }) => day,
    error: daily.error,
    onRetry: daily.onRetry,
  };
  return (
    <Page title="Overview" subtitle="Service health and key figures.">
      <Attention />
      <RangeBar />
      {overview.error ? (
        <ErrorAlert error={overview.error} onRetry={overview.onRetry} />
      ) : (
        <KeyFigures overview={overview.data} />
      )}
      <SimpleGrid cols={{ base: 1, lg: 2 }} spacing="lg">
        <ChartSection
          {...chart}
          title="Usage by day"
          kind="multiples"
          whole
          series={[
            countSeries<Day>("Uses", "indigo.6", ({ uses }) => uses),
            countSeries<Day>("Active users", "orange.6", ({ active_users }) => active_users),
            countSeries<Day>("New accounts", "teal.6", ({ new_accounts }) => new_accounts),
          ]}
          columns={[
            dayColumn,
            count<Day>("Uses", ({ uses }) => uses),
            count<Day>("Active users", ({ active_users }) => active_users),
            count<Day>("New accounts", ({ new_accounts }) => new_accounts),
            count<Day>("Credits spent", spentOf),
          ]}
          empty={["No usage", "No charges or tool uses in this period. Try other days or the other environment."]}
        />
        <ChartSection
          {...chart}
          title="Net sales by day"
          note="Money received minus refunds and disputes, on the day on which the purchase was created."
          kind="beside"
          series={salesSeries(currencies)}
          columns={[dayColumn, ...salesColumns(currencies), count<Day>("Credits sold", ({ credits }) => credits.sold)]}
          empty={["No sales", "No paid purchase was created in this period."]}
        />
        {moneyCurrencies.length > 0 && (
          <ChartSection
            {...chart}
            title="Usage charged by day"
            note="Usage events on the day of the events' own time. The table also has money that was purchased, granted or that expired."
            kind="beside"
            series={usageCostSeries(moneyCurrencies)}
            columns={[dayColumn, ...moneyColumns(moneyCurrencies)]}
            empty={["No usage charged", "No usage event was charged in this period. The table has other money."]}
          />
        )}
      </SimpleGrid>
      {overview.data !== undefined && <CurrentTotals overview={overview.data} />}
    </Page>
  );
}
