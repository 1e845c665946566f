import type { ApiKey, Permission } from "../../api/models";

export const PERMISSIONS: Record<Permission, string> = {
  "billing:read": "Read balances",
  "billing:write": "Charge credits and create purchases",
  "billing:credit": "Grant credits (trusted services only)",
};

export const SHOWN: Record<"active" | "ended", string> = { active: "Active", ended: "Inactive" };

/** Whether a key is valid: a rotated key is, until its grace period ends. */
export function isUsable(key: ApiKey): boolean {
  return key.status === "active" || key.status === "rotated";
}
