import { Anchor, Checkbox, MultiSelect } from "@mantine/core";
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { Link } from "react-router";

import { api, bodyOf } from "../../api/client";
import type { UsageSum } from "../../api/models";
import { useFilters } from "../../components/Filters";
import { BY_PAGE, Pager } from "../../components/Pager";
import { PersonLink } from "../../components/PersonLink";
import { keysOf, oneOf, pathWith, someOf } from "../../logic/filters";
import { formatNumber } from "../../logic/format";
import { INTERVALS, periodLabel } from "../../logic/usagePeriods";
import { ReportTable, type ReportColumn } from "../../reports/ReportTable";
import { count } from "../../reports/usage";
import { amountColumn } from "./amounts";
import { DIMENSIONS, filterOf, meterName, quantitiesText, STATUSES, type Dimension } from "./labels";
import { useUsageFilters } from "./useUsageFilters";

const FIRST: Dimension[] = ["provider", "model"];
const NONE = "none";

/** Sums of usage by any attributes, the highest cost first; or by time, in its order. */
export function Sums() {
  const { params, get, set } = useFilters();
  const filters = useUsageFilters();
  const groups = params.has("group") ? someOf(params.getAll("group"), keysOf(DIMENSIONS)) : FIRST;
  const interval = get("split") === null ? null : (oneOf(get("interval"), keysOf(INTERVALS)) ?? "day");
  const query = {
    ...filters,
    group_by: groups,
    interval,
    order: interval === null ? ("cost" as const) : ("group" as const),
    limit: 100,
    cursor: get("cursor"),
  };
  const { data, error, refetch, isPlaceholderData } = useQuery({
    queryKey: ["usage", "sums", query],
    queryFn: ({ signal }) => bodyOf(api.GET("/admin/usage/sums", { params: { query }, signal })),
    placeholderData: keepPreviousData,
  });
  const period: ReportColumn<UsageSum>[] =
    interval === null
      ? []
      : [{ name: INTERVALS[interval], cell: (row) => periodLabel(row.period ?? "", interval), csv: (row) => row.period }];
  const drillDown = (row: UsageSum) => {
    const shown = Object.fromEntries([...params].filter(([name]) => !["group", "split", "cursor"].includes(name)));
    const values = Object.fromEntries(Object.entries(row.group).map(([name, value]) => [filterOf(name as Dimension), value]));
    return pathWith("/usage", { ...shown, ...values, view: "events" });
  };
  return (
    <ReportTable
      title="Sums"
      note="List price is the cost without markup and minimum. The margin leaves out events with a stated cost and no list price. The file has the rows of this page."
      columns={[
        ...period,
        ...groups.map((dimension) => groupColumn(dimension)),
        {
          name: "Events",
          numeric: true,
          cell: (row) => (
            <Anchor component={Link} to={drillDown(row)} size="sm" underline="always">
              {formatNumber(row.events)}
            </Anchor>
          ),
          csv: ({ events }) => events,
        },
        { ...count<UsageSum>("Refused", ({ refused }) => refused), from: "md" },
        amountColumn<UsageSum>("Cost", ({ cost }) => cost),
        { ...amountColumn<UsageSum>("Correction", ({ correction }) => correction), from: "lg" },
        { ...amountColumn<UsageSum>("List price", ({ provider_cost }) => provider_cost), from: "sm" },
        { ...amountColumn<UsageSum>("Margin", ({ margin }) => margin), from: "sm" },
        { ...amountColumn<UsageSum>("Owed", ({ debt }) => debt), exportOnly: true },
        { ...amountColumn<UsageSum>("Recorded, not billed", ({ recorded_cost }) => recorded_cost), exportOnly: true },
        { name: "Currency", cell: ({ currency }) => currency, csv: ({ currency }) => currency, exportOnly: true },
        { name: "Quantities", cell: ({ quantities }) => quantitiesText(quantities), csv: ({ quantities }) => quantitiesText(quantities), from: "lg" },
      ]}
      rows={data?.sums}
      rowKey={(row) => [row.period, row.currency, ...Object.values(row.group)].join(" ")}
      busy={isPlaceholderData}
      error={error}
      onRetry={() => void refetch()}
      empty={["No usage", "No events match these days and filters."]}
      paged
      lead={
        <>
          <MultiSelect
            label="Group by"
            data={keysOf(DIMENSIONS).map((value) => ({ value, label: DIMENSIONS[value] }))}
            value={groups}
            onChange={(chosen) => set("group", chosen.length === 0 ? NONE : chosen)}
            maw={640}
            mb="xs"
          />
          <Checkbox
            label="Also by the interval of the chart"
            checked={interval !== null}
            onChange={({ currentTarget }) => set("split", currentTarget.checked ? "1" : null)}
            mb="sm"
          />
        </>
      }
    >
      <Pager nextCursor={data?.next_cursor} labels={BY_PAGE} />
    </ReportTable>
  );
}

function groupColumn(dimension: Dimension): ReportColumn<UsageSum> {
  const valueOf = (row: UsageSum) => row.group[dimension] ?? "";
  return { name: DIMENSIONS[dimension], cell: (row) => <Value dimension={dimension} row={row} />, csv: valueOf };
}

function Value({ dimension, row }: { dimension: Dimension; row: UsageSum }) {
  const value = row.group[dimension] ?? "";
  if (dimension === "user" && row.person !== null) return <PersonLink person={row.person} accountId={value} />;
  if (value === "") return "None";
  if (dimension === "meter") return meterName(value);
  if (dimension === "status") return (STATUSES as Record<string, string>)[value] ?? value;
  return <span style={{ display: "block", minWidth: 84, overflowWrap: "anywhere" }}>{value}</span>;
}
