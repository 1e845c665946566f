import { NumberInput, Select } from "@mantine/core";
import { useState } from "react";

import { api, bodyOf } from "../../api/client";
import type { AlertRule } from "../../api/models";
import { ActionDialog } from "../../components/ActionDialog";
import { isReason, ReasonField } from "../../components/ReasonField";
import { keysOf, oneOf } from "../../logic/filters";
import { ACTIONS, RULES } from "./labels";

const UNITS: Record<AlertRule["rule"], string> = {
  accounts_per_key: "New accounts by one key",
  purchases_per_card: "Purchases with one card",
  refunds_per_account: "Refunded purchases of one account",
  spend_spike: "Times what the account usually spends on a day",
};
const MOST = 1_000_000_000;
const LONGEST_H = 720;

export function RuleDialog({ rule, onClose }: { rule: AlertRule; onClose: () => void }) {
  const [action, setAction] = useState(rule.action);
  const [threshold, setThreshold] = useState<number | string>(rule.threshold);
  const [window, setWindow] = useState<number | string>(rule.window_h);
  const [minimum, setMinimum] = useState<number | string>(rule.minimum);
  const [reason, setReason] = useState("");
  const spike = rule.rule === "spend_spike";
  // A key's accounts are many people's: a person decides about the key.
  const actions = keysOf(ACTIONS).filter((one) => rule.rule !== "accounts_per_key" || one === "off" || one === "notify");
  const valid = within(threshold, 1, MOST) && within(window, 1, LONGEST_H) && within(minimum, 0, MOST);
  return (
    <ActionDialog
      title={RULES[rule.rule]}
      confirmLabel="Change the rule"
      disabled={!valid || !isReason(reason)}
      onClose={onClose}
      act={() =>
        bodyOf(
          api.PUT("/admin/alert-rules/{rule}", {
            params: { path: { rule: rule.rule } },
            body: {
              action,
              threshold: Number(threshold),
              window_h: Number(window),
              minimum: Number(minimum),
              reason: reason.trim(),
            },
          }),
        )
      }
      done={() => "The rule is changed: it counts within five minutes"}
    >
      {(problemOf) => (
        <>
          <Select
            data-autofocus
            label="What happens then"
            description="Held accounts can neither spend nor buy until somebody has looked at them."
            data={actions.map((value) => ({ value, label: ACTIONS[value] }))}
            value={action}
            error={problemOf("action")}
            allowDeselect={false}
            onChange={(value) => setAction(oneOf(value, actions) ?? action)}
          />
          <NumberInput label={UNITS[rule.rule]} min={1} max={MOST} allowDecimal={false} value={threshold} onChange={setThreshold} error={problemOf("threshold")} />
          {spike ? (
            <NumberInput
              label="Credits of a day"
              description="Below these, no spike is one."
              min={0}
              max={MOST}
              allowDecimal={false}
              value={minimum}
              onChange={setMinimum}
              error={problemOf("minimum")}
            />
          ) : (
            <NumberInput label="In how many hours" min={1} max={LONGEST_H} allowDecimal={false} value={window} onChange={setWindow} error={problemOf("window_h")} />
          )}
          <ReasonField value={reason} onChange={setReason} error={problemOf("reason")} />
        </>
      )}
    </ActionDialog>
  );
}

function within(value: number | string, least: number, most: number): boolean {
  return typeof value === "number" && Number.isInteger(value) && value >= least && value <= most;
}
