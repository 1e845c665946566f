import { useQuery } from "@tanstack/react-query";
import { useState } from "react";

import { api, bodyOf } from "../../api/client";
import type { AlertRule } from "../../api/models";
import { type Column } from "../../components/DataTable";
import { QueryTable } from "../../components/QueryTable";
import { RoleButton } from "../../components/RoleButton";
import { Section } from "../../components/Section";
import { Tag } from "../../components/Tag";
import { ACTIONS, limitOf, RULES } from "./labels";
import { RuleDialog } from "./RuleDialog";

export function Rules() {
  const [changing, setChanging] = useState<AlertRule | null>(null);
  const { data, error, refetch } = useQuery({
    queryKey: ["alert-rules"],
    queryFn: ({ signal }) => bodyOf(api.GET("/admin/alert-rules", { signal })),
  });
  const columns: Column<AlertRule>[] = [
    ...COLUMNS,
    {
      name: "Change",
      hiddenName: true,
      numeric: true,
      cell: (rule) => (
        <RoleButton needs="admin" size="xs" aria-label={`Change rule: ${RULES[rule.rule]}`} onClick={() => setChanging(rule)}>
          Change
        </RoleButton>
      ),
    },
  ];
  return (
    <Section title="Rules">
      <QueryTable
        error={error}
        onRetry={() => void refetch()}
        label="Rules"
        columns={columns}
        rows={data?.rules}
        rowKey={({ rule }) => rule}
        empty={<></>}
      />
      {changing !== null && <RuleDialog rule={changing} onClose={() => setChanging(null)} />}
    </Section>
  );
}

const COLUMNS: Column<AlertRule>[] = [
  { name: "Rule", cell: ({ rule }) => RULES[rule] },
  { name: "Threshold", cell: limitOf, from: "sm" },
  { name: "Action", cell: ({ action }) => <Tag tone={TONES[action]}>{ACTIONS[action]}</Tag> },
];

const TONES = { off: "quiet", notify: "info", hold: "warn", suspend: "bad" } as const;
