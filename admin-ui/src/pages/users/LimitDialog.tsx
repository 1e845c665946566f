import { Select, Text, TextInput } from "@mantine/core";
import { useState } from "react";

import { api, bodyOf } from "../../api/client";
import type { Limit, LimitBody, User } from "../../api/models";
import { ActionDialog } from "../../components/ActionDialog";
import { reasonProblem, ReasonField } from "../../components/ReasonField";
import { keysOf, oneOf } from "../../logic/filters";
import { ACTIONS, amountProblem, limitAmount, SCOPES, UNITS, WINDOWS } from "../../logic/limits";

/** Set a new limit, or change the amount of one. */
export function LimitDialog({ user, limit, onClose }: { user: User; limit: Limit | null; onClose: () => void }) {
  const [scope, setScope] = useState<Limit["scope"]>(limit?.scope ?? "account");
  const [value, setValue] = useState(limit?.scope_value ?? "");
  const [window, setWindow] = useState<Limit["window"]>(limit?.window ?? "day");
  const [unit, setUnit] = useState<LimitBody["unit"]>(limit === null ? "credits" : unitOf(limit));
  const [action, setAction] = useState<Limit["action"]>(limit?.action ?? "refuse");
  const [amount, setAmount] = useState("");
  const [reason, setReason] = useState("");
  const missing = scope !== "account" && value.trim() === "" ? `Enter the ${SCOPES[scope].toLowerCase()}` : null;
  const problem = amountProblem(unit, amount);
  const isFixed = limit !== null;
  return (
    <ActionDialog
      title={isFixed ? "Change limit" : "Set limit"}
      confirmLabel={isFixed ? "Change limit" : "Set limit"}
      blocked={missing ?? problem ?? reasonProblem(reason)}
      onClose={onClose}
      act={() =>
        bodyOf(
          api.PUT("/admin/users/{account_id}/limits", {
            params: { path: { account_id: user.account_id } },
            body: {
              scope: scope === "account" ? { type: scope } : { type: scope, value: value.trim() },
              window,
              unit,
              action,
              amount,
              reason: reason.trim(),
            },
          }),
        )
      }
      done={({ limit: set }) => `Limit: ${limitAmount(set.amount, set.unit)}, ${limitAmount(set.spent, set.unit)} used`}
    >
      {(problemOf) => (
        <>
          <Choice label="Scope" names={SCOPES} value={scope} onChange={setScope} disabled={isFixed} />
          {scope !== "account" && (
            <TextInput
              label={scope === "key" ? "Id of the API key" : `Name of the ${SCOPES[scope].toLowerCase()}`}
              required
              value={value}
              disabled={isFixed}
              onChange={({ currentTarget }) => setValue(currentTarget.value)}
              error={problemOf("scope")}
            />
          )}
          <Choice label="Window" names={WINDOWS} value={window} onChange={setWindow} disabled={isFixed} />
          <Choice label="Unit" names={UNITS} value={unit} onChange={setUnit} disabled={isFixed} error={problemOf("unit")} />
          <Choice label="Action" names={ACTIONS} value={action} onChange={setAction} disabled={isFixed} />
          <TextInput
            label={unit === "money" ? `Amount in ${user.currency.toUpperCase()}` : UNITS[unit]}
            description={limit === null ? "The most that a window may count. 0 refuses everything" : `Now ${limitAmount(limit.amount, limit.unit)}, ${limitAmount(limit.spent, limit.unit)} used`}
            required
            data-autofocus
            inputMode={unit === "money" ? "decimal" : "numeric"}
            autoComplete="off"
            value={amount}
            onChange={({ currentTarget }) => setAmount(currentTarget.value)}
            error={amount === "" ? undefined : (problem ?? problemOf("amount"))}
          />
          <ReasonField value={reason} onChange={setReason} error={problemOf("reason")} placeholder="Reason or ticket number" />
          <Text size="sm">Takes effect with the next request. The counter of the current window stays.</Text>
        </>
      )}
    </ActionDialog>
  );
}

interface ChoiceProps<Name extends string> {
  label: string;
  names: Record<Name, string>;
  value: Name;
  onChange: (name: Name) => void;
  disabled: boolean;
  error?: string | undefined;
}

function Choice<Name extends string>({ label, names, value, onChange, disabled, error }: ChoiceProps<Name>) {
  return (
    <Select
      label={label}
      data={keysOf(names).map((name) => ({ value: name, label: names[name] }))}
      value={value}
      allowDeselect={false}
      disabled={disabled}
      onChange={(chosen) => onChange(oneOf(chosen, keysOf(names)) ?? value)}
      error={error}
    />
  );
}

function unitOf({ unit }: Limit): LimitBody["unit"] {
  return unit === "credits" || unit === "uses" ? unit : "money";
}
