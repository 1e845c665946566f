import { Group, Progress, Stack, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";

import { api, bodyOf } from "../../api/client";
import type { Limit, User } from "../../api/models";
import { type Column } from "../../components/DataTable";
import { EmptyState } from "../../components/EmptyState";
import { QueryTable } from "../../components/QueryTable";
import { ReasonDialog } from "../../components/ReasonDialog";
import { RoleButton } from "../../components/RoleButton";
import { Section } from "../../components/Section";
import { Tag } from "../../components/Tag";
import { Timestamp } from "../../components/Timestamp";
import { ACTIONS, limitAmount, OWNERS, scopeName, usedPercent, WINDOWS } from "../../logic/limits";
import { LimitDialog } from "./LimitDialog";

/** The limits of an account, each with the counter of its current window. */
export function LimitsSection({ user }: { user: User }) {
  const [changing, setChanging] = useState<Limit | "new" | null>(null);
  const [removing, setRemoving] = useState<Limit | null>(null);
  const { data, error, refetch } = useQuery({
    queryKey: ["limits", user.account_id],
    queryFn: ({ signal }) =>
      bodyOf(api.GET("/admin/users/{account_id}/limits", { params: { path: { account_id: user.account_id } }, signal })),
  });
  const blocked = user.status === "closed" ? "The account is closed" : null;
  const change: Column<Limit> = {
    name: "Change",
    hiddenName: true,
    numeric: true,
    cell: (limit) => (
      <Group gap="xs" justify="flex-end" wrap="nowrap">
        {limit.owner === "operator" && (
          <RoleButton needs="admin" size="xs" blocked={blocked} aria-label={`Change limit: ${nameOf(limit)}`} onClick={() => setChanging(limit)}>
            Change
          </RoleButton>
        )}
        <RoleButton needs="admin" size="xs" aria-label={`Remove limit: ${nameOf(limit)}`} onClick={() => setRemoving(limit)}>
          Remove
        </RoleButton>
      </Group>
    ),
  };
  return (
    <Section
      title="Limits"
      aside={
        <RoleButton needs="admin" size="xs" blocked={blocked} onClick={() => setChanging("new")}>
          Set limit
        </RoleButton>
      }
    >
      <QueryTable
        error={error}
        onRetry={() => void refetch()}
        label="Limits"
        columns={[...COLUMNS, change]}
        rows={data?.limits}
        rowKey={({ id }) => id}
        wide
        empty={<EmptyState title="No limits">The account spends as far as its balances suffice.</EmptyState>}
      />
      {changing !== null && <LimitDialog user={user} limit={changing === "new" ? null : changing} onClose={() => setChanging(null)} />}
      {removing !== null && (
        <ReasonDialog
          texts={{
            title: "Remove limit",
            confirm: "Remove limit",
            danger: true,
            consequences: `Removes the limit of ${limitAmount(removing.amount, removing.unit)}: ${nameOf(removing)}.${removing.owner === "user" ? " The user set it." : ""}`,
            done: "Limit removed",
          }}
          onClose={() => setRemoving(null)}
          act={(reason) =>
            bodyOf(
              api.POST("/admin/users/{account_id}/limits/{limit_id}/remove", {
                params: { path: { account_id: user.account_id, limit_id: removing.id } },
                body: { reason },
              }),
            )
          }
        />
      )}
    </Section>
  );
}

function nameOf(limit: Limit): string {
  return `${scopeName(limit)}, ${WINDOWS[limit.window].toLowerCase()}, ${ACTIONS[limit.action].toLowerCase()}`;
}

const COLUMNS: Column<Limit>[] = [
  { name: "Limit", cell: (limit) => <Counter limit={limit} /> },
  { name: "Window", cell: ({ window }) => WINDOWS[window], from: "sm" },
  { name: "Action", cell: (limit) => <ActionTag limit={limit} />, from: "sm" },
  { name: "Owner", cell: ({ owner }) => OWNERS[owner], from: "md" },
  { name: "Resets", cell: ({ resets_at }) => <Timestamp at={resets_at} missing="Never" />, from: "lg" },
];

function Counter({ limit }: { limit: Limit }) {
  const percent = usedPercent(limit);
  return (
    <Stack gap={4} miw={180}>
      <Text size="sm" fw={600}>
        {scopeName(limit)}
      </Text>
      <Progress
        value={percent}
        size="sm"
        color={percent >= 100 ? "red.8" : percent >= 80 ? "orange.8" : undefined}
        aria-label={`Used: ${percent.toFixed(0)} %`}
      />
      <Text size="xs" c="dimmed" className="numeric">
        {limitAmount(limit.spent, limit.unit)} of {limitAmount(limit.amount, limit.unit)}
        <Text span size="xs" hiddenFrom="sm">
          {" "}
          · {WINDOWS[limit.window].toLowerCase()}
        </Text>
      </Text>
    </Stack>
  );
}

function ActionTag({ limit }: { limit: Limit }) {
  return (
    <Stack gap={0}>
      <Tag tone={limit.action === "refuse" ? "info" : "quiet"}>{ACTIONS[limit.action]}</Tag>
      {limit.crossed_at !== null && (
        <Text size="xs" c="dimmed">
          Crossed <Timestamp at={limit.crossed_at} />
        </Text>
      )}
    </Stack>
  );
}
