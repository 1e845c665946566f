import { Select } from "@mantine/core";
import { useState } from "react";

import { api, bodyOf } from "../../api/client";
import type { AlertRule } from "../../api/models";
import { ActionDialog } from "../../components/ActionDialog";
import { NumberField } from "../../components/NumberField";
import { reasonProblem, ReasonField } from "../../components/ReasonField";
import { keysOf, oneOf } from "../../logic/filters";
import { readWhole, type Bounds } from "../../logic/numbers";
import { ACTIONS, RULES } from "./labels";

const UNITS: Record<AlertRule["rule"], string> = {
  accounts_per_key: "New accounts per API key",
  purchases_per_card: "Purchases per card",
  refunds_per_account: "Refunded purchases per account",
  spend_spike: "Multiple of the account's usual daily spending",
};
const THRESHOLD: Bounds = { least: 1, most: 1_000_000_000 };
const HOURS: Bounds = { least: 1, most: 720 };
const CREDITS: Bounds = { least: 0, most: 1_000_000_000 };

export function RuleDialog({ rule, onClose }: { rule: AlertRule; onClose: () => void }) {
  const [action, setAction] = useState(rule.action);
  const [threshold, setThreshold] = useState(String(rule.threshold));
  const [window, setWindow] = useState(String(rule.window_h));
  const [minimum, setMinimum] = useState(String(rule.minimum));
  const [reason, setReason] = useState("");
  const spike = rule.rule === "spend_spike";
  // The accounts of a key belong to different people: an admin has to decide about the key.
  const actions = keysOf(ACTIONS).filter((one) => rule.rule !== "accounts_per_key" || one === "off" || one === "notify");
  const [many, hours, credits] = [readWhole(threshold, THRESHOLD), readWhole(window, HOURS), readWhole(minimum, CREDITS)];
  const invalid = many.problem ?? hours.problem ?? credits.problem;
  return (
    <ActionDialog
      title={RULES[rule.rule]}
      confirmLabel="Change rule"
      blocked={invalid === null ? reasonProblem(reason) : `Correct the marked field: ${invalid.toLowerCase()}`}
      onClose={onClose}
      act={() =>
        bodyOf(
          api.PUT("/admin/alert-rules/{rule}", {
            params: { path: { rule: rule.rule } },
            body: {
              action,
              threshold: many.value ?? rule.threshold,
              window_h: hours.value ?? rule.window_h,
              minimum: credits.value ?? rule.minimum,
              reason: reason.trim(),
            },
          }),
        )
      }
      done={() => "Rule changed: takes effect within five minutes"}
    >
      {(problemOf) => (
        <>
          <Select
            data-autofocus
            label="Action"
            description="Held accounts can neither spend nor buy until an admin decides."
            data={actions.map((value) => ({ value, label: ACTIONS[value] }))}
            value={action}
            error={problemOf("action")}
            allowDeselect={false}
            onChange={(value) => setAction(oneOf(value, actions) ?? action)}
          />
          <NumberField {...THRESHOLD} label={UNITS[rule.rule]} value={threshold} onChange={setThreshold} error={problemOf("threshold")} />
          {spike ? (
            <NumberField
              {...CREDITS}
              label="Minimum credits per day"
              description="Lower daily spending does not raise an alert."
              value={minimum}
              onChange={setMinimum}
              error={problemOf("minimum")}
            />
          ) : (
            <NumberField {...HOURS} label="Period in hours" value={window} onChange={setWindow} error={problemOf("window_h")} />
          )}
          <ReasonField value={reason} onChange={setReason} error={problemOf("reason")} />
        </>
      )}
    </ActionDialog>
  );
}
