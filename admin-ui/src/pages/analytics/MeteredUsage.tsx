import { SegmentedControl } from "@mantine/core";
import { useState } from "react";

import { api, bodyOf } from "../../api/client";
import type { MeteredSum } from "../../api/models";
import { ReportTable } from "../../reports/ReportTable";
import { count } from "../../reports/usage";
import { useReport } from "../../reports/useReport";
import { amountColumn } from "../usage/amounts";
import { meterName } from "../usage/labels";

const BY = { meter: "Meter", model: "Model", agent: "Agent", key: "API key" } as const;
type By = keyof typeof BY;

/** Sums of usage events by an attribute and currency, on the day of the events' own time. */
export function MeteredUsage() {
  const [by, setBy] = useState<By>("meter");
  const { data, ...state } = useReport(["analytics", "metered", by], (query, signal) =>
    bodyOf(api.GET("/admin/analytics/metered", { params: { query: { ...query, by } }, signal })),
  );
  const named = (sum: MeteredSum) => nameOf(by, sum);
  return (
    <ReportTable
      title="Usage events"
      note="Charged to the money of accounts, on the day of the events' own time."
      rows={data?.sums}
      rowKey={({ group, provider, currency }) => [group, provider, currency].join("/")}
      columns={[
        { name: BY[by], cell: (sum) => <span style={{ overflowWrap: "anywhere" }}>{named(sum)}</span>, csv: named },
        { name: "Currency", from: "sm", cell: ({ currency }) => currency, csv: ({ currency }) => currency },
        count<MeteredSum>("Events", ({ events }) => events),
        { ...count<MeteredSum>("Refused", ({ refused }) => refused), from: "md" },
        amountColumn<MeteredSum>("Charged", ({ cost }) => cost),
        { ...amountColumn<MeteredSum>("List prices", ({ provider_cost }) => provider_cost), from: "md" },
        { ...amountColumn<MeteredSum>("Margin", ({ margin }) => margin), from: "sm" },
      ]}
      {...state}
      aside={
        <SegmentedControl
          size="xs"
          aria-label="Group usage events by"
          data={Object.entries(BY).map(([value, label]) => ({ value, label }))}
          value={by}
          onChange={(value) => setBy(value as By)}
        />
      }
      empty={["No usage events", "No usage event has its time in this period. Try other days or the other environment."]}
    />
  );
}

function nameOf(by: By, { group, provider, name }: MeteredSum): string {
  if (group === null) return "Not named";
  if (by === "meter") return meterName(group);
  if (by === "key") return name ?? group;
  return provider === null ? group : `${provider}: ${group}`;
}
