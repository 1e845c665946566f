import { Group, Paper, SegmentedControl, Text } from "@mantine/core";

import { ChoiceFilter, ClearFilters, TextFilter, useFilters } from "../../components/Filters";
import { ExportButton } from "../../components/ExportButton";
import { Page } from "../../components/Page";
import { isUuid, keysOf, oneOf } from "../../logic/filters";
import { RangeBar } from "../../reports/RangeBar";
import { METERS } from "../prices/labels";
import { Events } from "./Events";
import { STATUSES } from "./labels";
import { Sums } from "./Sums";
import { UsageChart } from "./UsageChart";
import { useUsageFilters } from "./useUsageFilters";

/** The shown view: no filters. */
const VIEW = ["days", "from", "to", "environment", "view", "interval", "group", "split"];
const VIEWS = { sums: "Sums", events: "Events" };

export function UsagePage() {
  const { get, set } = useFilters();
  const filters = useUsageFilters();
  const view = oneOf(get("view"), keysOf(VIEWS)) ?? "sums";
  const account = get("account_id");
  return (
    <Page
      title="Usage"
      subtitle="Metered usage events: tokens, compute and calls, with their cost. Amounts are exact. Currencies are not converted."
      actions={<ExportButton path="/admin/usage/events.csv" filters={filters} needs="support" />}
    >
      <RangeBar />
      <Paper withBorder p={{ base: "sm", sm: "md" }}>
        <Group component="search" gap="sm" align="flex-end">
          <TextFilter name="account_id" label="User" placeholder="Account id" width={290} />
          <ChoiceFilter name="status" label="Status" choices={STATUSES} width={180} />
          <ChoiceFilter name="meter" label="Meter" choices={METERS} />
          <TextFilter name="provider" label="Provider" placeholder="openai" width={130} narrow />
          <TextFilter name="model" label="Model" placeholder="Exact id" width={180} narrow />
          <TextFilter name="agent" label="Agent" width={140} narrow />
          <TextFilter name="tool" label="Tool" width={140} narrow />
          <TextFilter name="run" label="Run" width={140} narrow />
          <TextFilter name="key" label="API key" placeholder="Key id" width={160} narrow />
          <TextFilter name="plan" label="Plan" width={130} narrow />
          <ClearFilters keep={VIEW} />
        </Group>
        {account !== null && account !== "" && !isUuid(account) && (
          <Text size="sm" c="var(--mantine-color-error)" role="alert" mt="xs">
            The user filter needs a complete account id. Copy it from the user page. The filter is not applied.
          </Text>
        )}
      </Paper>
      <UsageChart />
      <SegmentedControl
        aria-label="List"
        data={keysOf(VIEWS).map((value) => ({ value, label: VIEWS[value] }))}
        value={view}
        onChange={(value) => set("view", value === "sums" ? null : value)}
        style={{ alignSelf: "flex-start" }}
      />
      {view === "sums" ? <Sums /> : <Events />}
    </Page>
  );
}
