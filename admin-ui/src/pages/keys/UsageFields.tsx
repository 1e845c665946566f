import { Select, TextInput } from "@mantine/core";
import type { UseFormReturnType } from "@mantine/form";

import type { ProblemOf } from "../../api/errors";
import type { ApiKey, ApiKeyBody, Permission } from "../../api/models";
import { AmountField } from "../../components/AmountField";
import { amountText, readAmount } from "../../logic/amounts";
import { keysOf } from "../../logic/filters";
import { POLICIES, type UsagePolicy } from "./labels";

/** The form's values that describe how a key names users and reports usage. */
export interface UsageValues {
  provider: string;
  source: string;
  policy: UsagePolicy;
  debtLimit: string;
  maxCost: string;
}

interface Props<Values extends UsageValues> {
  form: UseFormReturnType<Values>;
  fresh: boolean;
  permissions: Permission[];
  problemOf: ProblemOf;
}

/** Whether a key with these permissions reports usage or handles money. */
export function hasUsage(permissions: Permission[]): boolean {
  return permissions.some((name) => !name.startsWith("billing:"));
}

export function UsageFields<Values extends UsageValues>({ form, fresh, permissions, problemOf }: Props<Values>) {
  const set = (values: Partial<UsageValues>) => form.setValues(values as Partial<Values>);
  const { source, policy, debtLimit, maxCost } = form.values;
  return (
    <>
      {fresh && (
        <TextInput
          label="Event source"
          description="Counts each event id once, also after rotations. Cannot be changed later. Leave empty for the default"
          maxLength={255}
          value={source}
          onChange={({ currentTarget }) => set({ source: currentTarget.value })}
          error={problemOf("event_source")}
        />
      )}
      <Select
        label="Usage without enough money"
        data={keysOf(POLICIES).map((value) => ({ value, label: POLICIES[value] }))}
        allowDeselect={false}
        value={policy}
        onChange={(value) => value !== null && set({ policy: value })}
        error={problemOf("usage_policy")}
      />
      {policy === "debt" && (
        <AmountField
          label="Debt limit"
          description="Most debt of an account by usage, in the account's currency"
          required
          value={debtLimit}
          onChange={(text) => set({ debtLimit: text })}
          error={problemOf("debt_limit_nanos")}
        />
      )}
      {permissions.includes("usage:set_cost") && (
        <AmountField
          label="Largest stated cost"
          description="Most that the key may state as the cost of one event, in the account's currency"
          required
          value={maxCost}
          onChange={(text) => set({ maxCost: text })}
          error={problemOf("max_cost_nanos")}
        />
      )}
    </>
  );
}

export function usageValuesOf(key: ApiKey | null): UsageValues {
  return {
    provider: key?.identity_provider ?? "",
    source: "",
    policy: key?.usage_policy ?? "refuse",
    debtLimit: amountOf(key?.debt_limit_nanos),
    maxCost: amountOf(key?.max_cost_nanos),
  };
}

export function usageBlockedBy({ policy, debtLimit, maxCost }: UsageValues, permissions: Permission[]): string | null {
  const limit = readAmount(debtLimit);
  const cost = readAmount(maxCost);
  if (policy === "debt" && limit.value === null) return limit.problem === null ? "Enter a debt limit" : `Correct the debt limit: ${limit.problem.toLowerCase()}`;
  if (permissions.includes("usage:set_cost") && cost.value === null)
    return cost.problem === null ? "Enter the largest stated cost" : `Correct the largest stated cost: ${cost.problem.toLowerCase()}`;
  return null;
}

export function usageBodyFrom({ provider, policy, debtLimit, maxCost }: UsageValues, permissions: Permission[]): Pick<
  ApiKeyBody,
  "identity_provider" | "usage_policy" | "debt_limit_nanos" | "max_cost_nanos"
> {
  return {
    identity_provider: provider.trim() || null,
    usage_policy: policy,
    debt_limit_nanos: policy === "debt" ? readAmount(debtLimit).value : null,
    max_cost_nanos: permissions.includes("usage:set_cost") ? readAmount(maxCost).value : null,
  };
}

function amountOf(nanos: number | null | undefined): string {
  return nanos === null || nanos === undefined ? "" : amountText(nanos);
}
