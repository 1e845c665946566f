import { Text } from "@mantine/core";

import { api, bodyOf } from "../../api/client";
import { useReport } from "../../reports/useReport";
import { cohortRows, heatOf, type CohortRow } from "./cohortTable";
import { formatShare } from "../../logic/decimals";
import { formatNumber } from "../../logic/format";
import { formatDay, utcDay } from "../../logic/ranges";
import { ReportTable, type ReportColumn } from "../../reports/ReportTable";
import { count } from "../../reports/usage";
import classes from "./Cohorts.module.css";

/** Retention: accounts by the week of their creation, and the share active in each week since. */
export function Cohorts() {
  const { data, ...state } = useReport(["analytics", "cohorts"], (query, signal) =>
    bodyOf(api.GET("/admin/analytics/cohorts", { params: { query }, signal })),
  );
  const rows = data && cohortRows(data.cohorts, utcDay(new Date()));
  const weeks = rows?.[0]?.active.length ?? 0;
  return (
    <ReportTable
      title="Cohorts"
      note="Accounts by the week of their creation, and the share active in that week and in each week since."
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
      {...state}
      empty={["No new accounts", "No account was created in these weeks. Try a longer period."]}
      paged
    />
  );
}

function weekColumn(week: number): ReportColumn<CohortRow> {
  return {
    name: week === 0 ? "Same week" : `+${week}`,
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
