import { Group, Paper, Stack } from "@mantine/core";
import { keepPreviousData, useQuery } from "@tanstack/react-query";

import { api, bodyOf } from "../../api/client";
import type { AuditQuery } from "../../api/models";
import { EmptyState } from "../../components/EmptyState";
import { ErrorAlert } from "../../components/ErrorAlert";
import { ExportButton } from "../../components/ExportButton";
import { ClearFilters, ChoiceFilter, DayFilter, TextFilter, useFilters } from "../../components/Filters";
import { ListSkeleton } from "../../components/ListSkeleton";
import { Page } from "../../components/Page";
import { Pager } from "../../components/Pager";
import { startOfDay } from "../../logic/dates";
import { isUuid } from "../../logic/filters";
import { AuditItem } from "./AuditItem";
import { ACTIONS, TARGETS } from "./labels";

/** The id of the service itself as an actor: automatic actions of rules and earlier decisions. */
const SYSTEM_ADMIN_ID = "00000000-0000-0000-0000-000000000000";

export function AuditPage() {
  const { get, filtered } = useFilters();
  const adminId = get("admin_id") ?? "";
  const filters = {
    admin_id: isUuid(adminId) ? adminId : null,
    action: get("action"),
    target_type: get("target_type"),
    target_id: get("target_id"),
    since: startOfDay(get("since") ?? ""),
    until: startOfDay(get("until") ?? "", 1),
  };
  const query: AuditQuery = { ...filters, cursor: get("cursor") };
  const { data, error, refetch, isPlaceholderData } = useQuery({
    queryKey: ["audit", query],
    queryFn: ({ signal }) => bodyOf(api.GET("/admin/audit-logs", { params: { query }, signal })),
    placeholderData: keepPreviousData,
  });
  return (
    <Page
      title="Audit log"
      subtitle="All changes made in the back office, with admin, reason and address. Entries cannot be edited or deleted."
      actions={<ExportButton path="/admin/audit-logs.csv" filters={filters} />}
    >
      <Paper withBorder p={{ base: "sm", sm: "md" }}>
        <Group component="search" gap="sm" align="flex-end" mb="sm">
          <AdminFilter />
          <ChoiceFilter name="action" label="Action" choices={ACTIONS} width={185} />
          <ChoiceFilter name="target_type" label="Target" choices={TARGETS} width={115} />
          <TextFilter name="target_id" label="Target id" width={120} narrow />
          <DayFilter name="since" label="From" />
          <DayFilter name="until" label="To" />
          <ClearFilters />
        </Group>
        {error && <ErrorAlert error={error} onRetry={() => void refetch()} />}
        {data === undefined && !error && <ListSkeleton label="Loading audit log" />}
        {data?.entries.length === 0 && (
          <EmptyState title={filtered ? "No matching entries" : "No changes yet"}>
            {filtered ? "Enter complete ids. Days are in your time zone, both included." : "Changes are listed here."}
          </EmptyState>
        )}
        {data !== undefined && data.entries.length > 0 && (
          <Stack component="ol" gap={0} m={0} p={0} aria-label="Audit log, newest first" aria-busy={isPlaceholderData}>
            {data.entries.map((entry) => (
              <AuditItem key={entry.audit_id} entry={entry} />
            ))}
          </Stack>
        )}
        <Pager nextCursor={data?.next_cursor} />
      </Paper>
    </Page>
  );
}

function AdminFilter() {
  const { data } = useQuery({
    queryKey: ["admins"],
    queryFn: ({ signal }) => bodyOf(api.GET("/admin/admins", { signal })),
  });
  const choices: Record<string, string> = Object.fromEntries((data?.admins ?? []).map((admin) => [admin.admin_id, admin.email]));
  choices[SYSTEM_ADMIN_ID] = "System (rules and decisions)";
  return <ChoiceFilter name="admin_id" label="Admin" choices={choices} width={165} />;
}
