import { keepPreviousData, useQuery } from "@tanstack/react-query";

import { api, bodyOf } from "../../api/client";
import type { Day } from "../../api/models";
import { ChartSection } from "../../reports/ChartSection";
import { count, countSeries, currenciesOf, dayColumn, salesColumns, usageColumns } from "../../reports/usage";
import { useRange } from "../../reports/useRange";

/** Each day's uses and what paid for them; the table and the file have all figures of a day. */
export function Daily() {
  const { query } = useRange();
  const { data, error, refetch } = useQuery({
    queryKey: ["analytics", "daily", query],
    queryFn: ({ signal }) => bodyOf(api.GET("/admin/analytics/daily", { params: { query }, signal })),
    placeholderData: keepPreviousData,
  });
  const currencies = currenciesOf(data?.days ?? []);
  return (
    <ChartSection
      title="By day"
      note="What paid: credits of the main pools, by pool, and uses that products hold of their own."
      kind="stacked"
      whole
      days={data?.days}
      dayOf={({ day }) => day}
      series={[
        countSeries<Day>("Paid", "indigo.6", ({ spent }) => spent.paid),
        countSeries<Day>("Free", "teal.5", ({ spent }) => spent.free),
        countSeries<Day>("Free today", "yellow.6", ({ spent }) => spent.daily_free),
        countSeries<Day>("Product free", "grape.5", ({ product_free }) => product_free),
        countSeries<Day>("Product paid", "cyan.7", ({ product_paid }) => product_paid),
      ]}
      columns={[
        dayColumn,
        ...usageColumns(),
        { ...count<Day>("Active users", ({ active_users }) => active_users), from: "sm" },
        { ...count<Day>("New accounts", ({ new_accounts }) => new_accounts), from: "sm" },
        { ...count<Day>("Sold", ({ credits }) => credits.sold), from: "md" },
        { ...count<Day>("Granted", ({ credits }) => credits.granted), from: "lg" },
        { ...count<Day>("Taken back", ({ credits }) => credits.taken_back), from: "lg" },
        ...salesColumns(currencies).map((column) => ({ ...column, from: "md" as const })),
      ]}
      error={error}
      onRetry={() => void refetch()}
      empty={["Nothing was used", "No charge and no tool use in these days. Other days, or the other environment, may have some."]}
    />
  );
}
