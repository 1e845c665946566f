import { Anchor, Group, Paper, SegmentedControl, Stack, Text } from "@mantine/core";
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { Link } from "react-router";

import { api, bodyOf } from "../../api/client";
import type { Environment, PlanRow } from "../../api/models";
import { type Column } from "../../components/DataTable";
import { EmptyState } from "../../components/EmptyState";
import { useFilters } from "../../components/Filters";
import { QueryTable } from "../../components/QueryTable";
import { keysOf, oneOf, pathWith } from "../../logic/filters";
import { formatNumber } from "../../logic/format";
import { pricesOf } from "../../logic/plans";
import { ENVIRONMENTS } from "../users/labels";
import { PlanTags } from "./PlanTags";

/** The plans with their subscribers. */
export function PlansTab() {
  const { set } = useFilters();
  const environment = useEnvironment();
  const { data, error, refetch, isPlaceholderData } = useQuery({
    queryKey: ["plans", environment],
    queryFn: ({ signal }) => bodyOf(api.GET("/admin/plans", { params: { query: { environment } }, signal })),
    placeholderData: keepPreviousData,
  });
  return (
    <Paper withBorder p={{ base: "sm", sm: "md" }}>
      <Group justify="space-between" mb="sm" gap="sm">
        <SegmentedControl
          aria-label="Environment"
          data={keysOf(ENVIRONMENTS).map((value) => ({ value, label: ENVIRONMENTS[value] }))}
          value={environment}
          onChange={(value) => set("environment", value === "live" ? null : value)}
        />
        <Anchor component={Link} to={pathWith("/configuration", { section: "plans" })} size="sm" underline="always">
          Edit plans in the configuration
        </Anchor>
      </Group>
      <QueryTable
        error={error}
        onRetry={() => void refetch()}
        label="Plans"
        columns={columnsOf(environment)}
        rows={data?.plans}
        rowKey={({ plan }) => plan.name}
        busy={isPlaceholderData}
        empty={<EmptyState title="No plans">Add a plan in the configuration.</EmptyState>}
      />
    </Paper>
  );
}

export function useEnvironment(): Environment {
  return oneOf<Environment>(useFilters().get("environment"), ["live", "test"]) ?? "live";
}

function columnsOf(environment: Environment): Column<PlanRow>[] {
  return [
    { name: "Plan", cell: ({ plan }) => <PlanCell plan={plan} environment={environment} /> },
    { name: "Prices", cell: ({ plan }) => pricesOf(plan), from: "sm" },
    { name: "Subscribers", cell: ({ subscribers }) => formatNumber(subscribers), numeric: true },
    { name: "Past due", cell: ({ past_due }) => formatNumber(past_due), numeric: true, from: "sm" },
    { name: "On earlier terms", cell: ({ on_earlier_terms }) => formatNumber(on_earlier_terms), numeric: true, from: "md" },
    { name: "State", cell: ({ plan }) => <PlanTags plan={plan} />, from: "xs" },
  ];
}

function PlanCell({ plan, environment }: { plan: PlanRow["plan"]; environment: Environment }) {
  return (
    <Stack gap={0}>
      <Anchor component={Link} to={pathWith(`/subscriptions/plans/${plan.name}`, { environment: environment === "live" ? null : environment })} size="sm" fw={600}>
        {plan.title}
      </Anchor>
      <Text size="xs" c="dimmed">
        {plan.name}
      </Text>
    </Stack>
  );
}
