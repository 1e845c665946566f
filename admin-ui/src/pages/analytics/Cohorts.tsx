import { Text } from "@mantine/core";
import { keepPreviousData, useQuery } from "@tanstack/react-query";

import { api, bodyOf } from "../../api/client";
import { cohortRows, heatOf, type CohortRow } from "./cohortTable";
import { formatShare } from "../../logic/decimals";
import { formatNumber } from "../../logic/format";
import { formatDay, utcDay } from "../../logic/ranges";
import { ReportTable, type ReportColumn } from "../../reports/ReportTable";
import { count } from "../../reports/usage";
import { useRange } from "../../reports/useRange";
import classes from "./Cohorts.module.css";

/** Who came back: accounts by the week in which they were made, and the part of them active in each week since. */
export function Cohorts() {
  const { query } = useRange();
  const { data, error, refetch, isPlaceholderData } = useQuery({
    queryKey: ["analytics", "cohorts", query],
    queryFn: ({ signal }) => bodyOf(api.GET("/admin/analytics/cohorts", { params: { query }, signal })),
    placeholderData: keepPreviousData,
  });
  const rows = data && cohortRows(data.cohorts, utcDay(new Date()));
  const weeks = rows?.[0]?.active.length ?? 0;
  return (
    <ReportTable
      title="Cohorts"
      note="Accounts by the week in which they were made, and how many of them were active that week and in the weeks since."
      rows={rows}
      rowKey={({ first_day }) => first_day}
      columns={[
        { name: "Week of", cell: ({ first_day }) => <Text span inherit style={{ whiteSpace: "nowrap" }}>{formatDay(first_day)}</Text>, csv: ({ first_day }) => first_day },
        count<CohortRow>("Accounts", ({ accounts }) => accounts),
        {
          name: "Ever paid",
          numeric: true,
          cell: ({ ever_paid, accounts }) => `${formatNumber(ever_paid)} (${formatShare(ever_paid, accounts) ?? "—"})`,
          csv: ({ ever_paid }) => ever_paid,
        },
        ...Array.from({ length: weeks }, (_, week) => weekColumn(week)),
      ]}
      busy={isPlaceholderData}
      error={error}
      onRetry={() => void refetch()}
      empty={["No accounts were made", "Nobody new came in the weeks of these days. A longer range may have some."]}
      paged
    />
  );
}

function weekColumn(week: number): ReportColumn<CohortRow> {
  return {
    name: week === 0 ? "That week" : `+${week}`,
    numeric: true,
    cell: ({ active, accounts }) => {
      const here = active[week] ?? null;
      if (here === null) return null;
      return (
        <span className={classes.cell} data-heat={heatOf(here, accounts)} title={`${formatNumber(here)} of ${formatNumber(accounts)}`}>
          {formatShare(here, accounts) ?? "—"}
        </span>
      );
    },
    csv: ({ active }) => active[week] ?? null,
  };
}
