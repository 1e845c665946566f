import type { ApiKey, Permission } from "../../api/models";

export type UsagePolicy = ApiKey["usage_policy"];
export type DoubleCharges = ApiKey["double_charges"];

export const PERMISSIONS: Record<Permission, string> = {
  "billing:read": "Read balances",
  "billing:write": "Charge credits and create purchases",
  "billing:credit": "Grant credits (trusted services only)",
  "usage:read": "Read usage, quote and check",
  "usage:write": "Report usage",
  "usage:set_cost": "State the cost of usage",
  "money:credit": "Add money and grants (trusted services only)",
  "limits:write": "Set limits",
  "payments:redeem": "Buy with saved cards (no effect yet)",
};

export const POLICIES: Record<UsagePolicy, string> = {
  refuse: "Refuse it",
  debt: "Record the rest as debt",
};

export const DOUBLE_CHARGES: Record<DoubleCharges, string> = {
  ignore: "Charge them as any other",
  flag: "Charge and flag them",
  refuse: "Refuse them",
};

export const SHOWN: Record<"active" | "ended", string> = { active: "Active", ended: "Inactive" };

/** Whether a key is valid: a rotated key is, until its grace period ends. */
export function isUsable(key: ApiKey): boolean {
  return key.status === "active" || key.status === "rotated";
}
