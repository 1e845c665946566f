import type { ApiKey, Permission } from "../../api/models";

export const PERMISSIONS: Record<Permission, string> = {
  "billing:read": "Look at balances",
  "billing:write": "Charge, and begin purchases",
  "billing:credit": "Give credits: for trusted services only",
};

export const SHOWN: Record<"active" | "ended", string> = { active: "Working", ended: "Ended" };

/** A rotated key works on until its grace period is over. */
export function works(key: ApiKey): boolean {
  return key.status === "active" || key.status === "rotated";
}
