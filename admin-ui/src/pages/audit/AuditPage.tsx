import { Button, Group, Paper, Stack } from "@mantine/core";
import { keepPreviousData, useQuery } from "@tanstack/react-query";

import { api, bodyOf } from "../../api/client";
import type { AuditQuery } from "../../api/models";
import { EmptyState } from "../../components/EmptyState";
import { ErrorAlert } from "../../components/ErrorAlert";
import { ExportButton } from "../../components/ExportButton";
import { ChoiceFilter, DayFilter, TextFilter, useFilters } from "../../components/Filters";
import { ListSkeleton } from "../../components/ListSkeleton";
import { Page } from "../../components/Page";
import { Pager } from "../../components/Pager";
import { startOfDay } from "../../logic/dates";
import { isUuid } from "../../logic/filters";
import { AuditItem } from "./AuditItem";
import { ACTIONS, TARGETS } from "./labels";

/** Stands for the service itself, which is no admin: what a rule or an earlier decision did. */
const SYSTEM_ADMIN_ID = "00000000-0000-0000-0000-000000000000";

export function AuditPage() {
  const { get, clear, filtered } = useFilters();
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
      subtitle="Every change in the back office: who, what, why and from where. Nothing here can be changed."
      actions={<ExportButton path="/admin/audit-logs.csv" filters={filters} />}
    >
      <Paper withBorder p={{ base: "sm", sm: "md" }}>
        <Group component="search" gap="sm" align="flex-end" mb="sm">
          <AdminFilter />
          <ChoiceFilter name="action" label="Action" choices={ACTIONS} width={185} />
          <ChoiceFilter name="target_type" label="On what" choices={TARGETS} width={115} />
          <TextFilter name="target_id" label="Its id" width={120} narrow />
          <DayFilter name="since" label="From" />
          <DayFilter name="until" label="To" />
          {filtered && (
            <Button variant="subtle" onClick={clear}>
              Clear
            </Button>
          )}
        </Group>
        {error && <ErrorAlert error={error} onRetry={() => void refetch()} />}
        {data === undefined && !error && <ListSkeleton label="Loading the audit log" />}
        {data?.entries.length === 0 && (
          <EmptyState title={filtered ? "No entry matches" : "Nothing was changed yet"}>
            {filtered ? "Ids are looked up whole. Days are yours, both included." : "The first change will stand here."}
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
