import { SegmentedControl, SimpleGrid, Stack } from "@mantine/core";
import { keepPreviousData, useQuery } from "@tanstack/react-query";

import { api, bodyOf } from "../../api/client";
import type { MonthFigures } from "../../api/models";
import { useFilters } from "../../components/Filters";
import { formatCount, formatMoney, formatNumber } from "../../logic/format";
import { keysOf } from "../../logic/filters";
import { plainUnits } from "../../logic/decimals";
import { monthName, percentText, recurringIn, revenueCurrencies } from "../../logic/subscriptionFigures";
import { ChartSection } from "../../reports/ChartSection";
import { Figure, FigureSkeletons } from "../../reports/Figure";
import type { ReportColumn } from "../../reports/ReportTable";
import { count, countSeries, moneyColor } from "../../reports/usage";
import { useEnvironment } from "../plans/PlansTab";
import { ENVIRONMENTS } from "../users/labels";

/** Recurring revenue, churn and conversion of the last twelve months. */
export function FiguresTab() {
  const { set } = useFilters();
  const environment = useEnvironment();
  const { data, error, refetch } = useQuery({
    queryKey: ["subscription-figures", environment],
    queryFn: ({ signal }) => bodyOf(api.GET("/admin/subscription-figures", { params: { query: { environment } }, signal })),
    placeholderData: keepPreviousData,
  });
  const shared = {
    days: data?.months,
    dayOf: ({ month }: MonthFigures) => month,
    labelOf: ({ month }: MonthFigures, short: boolean) => monthName(month, short),
    error,
    onRetry: () => void refetch(),
  };
  return (
    <Stack gap="lg">
      <SegmentedControl
        aria-label="Environment"
        w="fit-content"
        data={keysOf(ENVIRONMENTS).map((value) => ({ value, label: ENVIRONMENTS[value] }))}
        value={environment}
        onChange={(value) => set("environment", value === "live" ? null : value)}
      />
      <Now months={data?.months} />
      <Revenue {...shared} graceDays={data?.grace_days} />
      <ChartSection
        {...shared}
        title="Churn"
        note="Ended in the month, as a share of the subscriptions that were active at its start. A change of plan ends none. Months are UTC."
        kind="line"
        series={[percentSeries("Churn", "orange.6", ({ churn_percent }) => churn_percent)]}
        columns={[
          monthColumn,
          count<MonthFigures>("Active at start", ({ active_at_start }) => active_at_start),
          count<MonthFigures>("Began", ({ began }) => began),
          count<MonthFigures>("Ended", ({ ended }) => ended),
          percentColumn("Churn", ({ churn_percent }) => churn_percent),
        ]}
        empty={["No churn", "No subscription ended in these months."]}
      />
      <ChartSection
        {...shared}
        title="Conversion"
        note="Accounts whose first payment of any kind was in the month, as a share of the accounts that were created in it. It exceeds 100 % when older accounts begin to pay."
        kind="beside"
        whole
        series={[
          countSeries<MonthFigures>("New accounts", "indigo.6", ({ new_accounts }) => new_accounts),
          countSeries<MonthFigures>("Began to pay", "teal.6", ({ began_to_pay }) => began_to_pay),
        ]}
        columns={[
          monthColumn,
          count<MonthFigures>("New accounts", ({ new_accounts }) => new_accounts),
          count<MonthFigures>("Began to pay", ({ began_to_pay }) => began_to_pay),
          percentColumn("Conversion", ({ conversion_percent }) => conversion_percent),
        ]}
        empty={["No new accounts", "No account was created in these months."]}
      />
    </Stack>
  );
}

/** The figures of the present month. */
function Now({ months }: { months: MonthFigures[] | undefined }) {
  const [now, before] = [months?.at(-1), months?.at(-2)];
  if (months === undefined || now === undefined || before === undefined) {
    return (
      <SimpleGrid cols={{ base: 2, md: 4 }} spacing="sm" aria-busy>
        <FigureSkeletons count={4} />
      </SimpleGrid>
    );
  }
  const currencies = revenueCurrencies(months);
  return (
    <SimpleGrid cols={{ base: 2, md: 4 }} spacing="sm">
      {(currencies.length === 0 ? ["USD"] : currencies).map((currency) => {
        const { amount_minor, paying } = recurringIn(now, currency);
        return (
          <Figure
            key={currency}
            name={`Monthly recurring revenue, ${currency}`}
            value={formatMoney(amount_minor, currency)}
            hint={formatCount(paying, "paying subscription")}
          />
        );
      })}
      <Figure name="Churn this month" value={percentText(now.churn_percent)} hint={`${percentText(before.churn_percent)} last month`} />
      <Figure name="Conversion this month" value={percentText(now.conversion_percent)} hint={`${percentText(before.conversion_percent)} last month`} />
      <Figure name="New subscriptions" value={formatNumber(now.began)} hint={`${formatNumber(now.ended)} ended this month`} />
    </SimpleGrid>
  );
}

interface RevenueProps {
  days: MonthFigures[] | undefined;
  dayOf: (month: MonthFigures) => string;
  labelOf: (month: MonthFigures, short: boolean) => string;
  error: Error | null;
  onRetry: () => void;
  graceDays: number | undefined;
}

function Revenue({ graceDays, ...shared }: RevenueProps) {
  const currencies = revenueCurrencies(shared.days ?? []);
  const grace = graceDays === undefined ? "its grace period" : formatCount(graceDays, "day");
  return (
    <ChartSection
      {...shared}
      title="Monthly recurring revenue"
      note={`The monthly cost of the subscriptions in force at the end of the month, or now, after discounts and before taxes. A yearly price counts a twelfth, a trial nothing. An unpaid renewal counts for ${grace}; a canceled subscription counts until its period ends. Late payments and refunds change past months.`}
      kind="beside"
      series={currencies.map((currency, index) => ({
        name: currency,
        color: moneyColor(index),
        valueOf: (month: MonthFigures) => Number(plainUnits(String(recurringIn(month, currency).amount_minor), currency)),
        textOf: (month: MonthFigures) => formatMoney(recurringIn(month, currency).amount_minor, currency),
      }))}
      columns={[
        monthColumn,
        ...currencies.flatMap((currency) => [
          {
            name: `Revenue ${currency}`,
            numeric: true,
            cell: (month: MonthFigures) => formatMoney(recurringIn(month, currency).amount_minor, currency),
            csv: (month: MonthFigures) => plainUnits(String(recurringIn(month, currency).amount_minor), currency),
          },
          count<MonthFigures>(`Paying ${currency}`, (month) => recurringIn(month, currency).paying),
        ]),
      ]}
      empty={["No recurring revenue", "No subscription was in force in these months."]}
    />
  );
}

const monthColumn: ReportColumn<MonthFigures> = {
  name: "Month",
  cell: ({ month }) => monthName(month),
  csv: ({ month }) => month.slice(0, 7),
};

function percentColumn(name: string, of: (month: MonthFigures) => string | null): ReportColumn<MonthFigures> {
  return { name, numeric: true, cell: (month) => percentText(of(month)), csv: (month) => of(month) };
}

function percentSeries(name: string, color: string, of: (month: MonthFigures) => string | null) {
  return { name, color, valueOf: (month: MonthFigures) => Number(of(month) ?? 0), textOf: (month: MonthFigures) => percentText(of(month)) };
}
