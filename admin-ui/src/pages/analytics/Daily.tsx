
import { api, bodyOf } from "../../api/client";
import type { Day } from "../../api/models";
import { moneyCurrenciesOf } from "../../logic/money";
import { ChartSection } from "../../reports/ChartSection";
import { moneyColumns } from "../../reports/money";
import { salesColumns, count, usageColumns, countSeries, currenciesOf, dayColumn } from "../../reports/usage";
import { useReport } from "../../reports/useReport";

/** Usage by day and by the pool that paid for it; the table and the file have all daily figures. */
export function Daily() {
  const { data, error, onRetry } = useReport(["analytics", "daily"], (query, signal) =>
    bodyOf(api.GET("/admin/analytics/daily", { params: { query }, signal })),
  );
  const currencies = currenciesOf(data?.days ?? []);
  const moneyCurrencies = moneyCurrenciesOf(data?.days ?? []);
  return (
    <ChartSection
      title="By day"
      note="Credits spent from the main pools, and product uses paid from the products' pools."
      kind="stacked"
      whole
      days={data?.days}
      dayOf={({ day }) => day}
      series={[
        countSeries<Day>("Paid", "indigo.6", ({ spent }) => spent.paid),
        countSeries<Day>("Grants", "orange.5", ({ spent }) => spent.grants),
        countSeries<Day>("Free", "teal.5", ({ spent }) => spent.free),
        countSeries<Day>("Daily free", "yellow.6", ({ spent }) => spent.daily_free),
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
        { ...count<Day>("Grants given", ({ credits }) => credits.grants_given), from: "lg" },
        { ...count<Day>("Grants ended", ({ credits }) => credits.grants_ended), from: "lg" },
        { ...count<Day>("Taken back", ({ credits }) => credits.taken_back), from: "lg" },
        ...salesColumns(currencies).map((column) => ({ ...column, from: "md" as const })),
        ...moneyColumns(moneyCurrencies).map((column) => ({ ...column, from: "lg" as const })),
      ]}
      error={error}
      onRetry={onRetry}
      empty={["No usage", "No charges or tool uses in this period. Try other days or the other environment."]}
    />
  );
}
