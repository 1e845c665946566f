import { SimpleGrid } from "@mantine/core";
import { keepPreviousData, useQuery } from "@tanstack/react-query";

import { api, bodyOf } from "../../api/client";
import type { Day } from "../../api/models";
import { ErrorAlert } from "../../components/ErrorAlert";
import { Page } from "../../components/Page";
import { ChartSection } from "../../reports/ChartSection";
import { RangeBar } from "../../reports/RangeBar";
import {
  count,
  countSeries,
  currenciesOf,
  dayColumn,
  salesColumns,
  salesSeries,
  spentOf,
} from "../../reports/usage";
import { useRange } from "../../reports/useRange";
import { Attention } from "./Attention";
import { KeyFigures } from "./KeyFigures";
import { Standing } from "./Standing";

export function OverviewPage() {
  const { query } = useRange();
  const overview = useQuery({
    queryKey: ["analytics", "overview", query],
    queryFn: ({ signal }) => bodyOf(api.GET("/admin/analytics/overview", { params: { query }, signal })),
    placeholderData: keepPreviousData,
  });
  const daily = useQuery({
    queryKey: ["analytics", "daily", query],
    queryFn: ({ signal }) => bodyOf(api.GET("/admin/analytics/daily", { params: { query }, signal })),
    placeholderData: keepPreviousData,
  });
  const days = daily.data?.days;
  const currencies = currenciesOf(days ?? []);
  const chart = {
    days,
    dayOf: ({ day }: { day: string }) => day,
    error: daily.error,
    onRetry: () => void daily.refetch(),
  };
  return (
    <Page title="Overview" subtitle="Service health, and what needs attention.">
      <Attention />
      <RangeBar />
      {overview.error ? (
        <ErrorAlert error={overview.error} onRetry={() => void overview.refetch()} />
      ) : (
        <KeyFigures overview={overview.data} />
      )}
      <SimpleGrid cols={{ base: 1, lg: 2 }} spacing="lg">
        <ChartSection
          {...chart}
          title="Use by day"
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
          empty={["Nothing was used", "No charge and no tool use in these days. Other days, or the other environment, may have some."]}
        />
        <ChartSection
          {...chart}
          title="Net sales by day"
          note="Money received less refunds and disputes, on the day on which the purchase was begun."
          kind="beside"
          series={salesSeries(currencies)}
          columns={[dayColumn, ...salesColumns(currencies), count<Day>("Credits sold", ({ credits }) => credits.sold)]}
          empty={["Nothing was sold", "No paid purchase was begun in these days."]}
        />
      </SimpleGrid>
      {overview.data !== undefined && <Standing overview={overview.data} />}
    </Page>
  );
}
