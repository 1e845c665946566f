import type { Role } from "../api/models";

const RANK: Record<Role, number> = { viewer: 0, support: 1, admin: 2 };

export const ROLES: { value: Role; label: string; description: string }[] = [
  { value: "viewer", label: "Viewer", description: "Sees everything, changes nothing" },
  { value: "support", label: "Support", description: "Adjusts credits up to a limit, suspends and reopens accounts" },
  { value: "admin", label: "Admin", description: "Everything: keys, refunds, closing accounts, other admins" },
];

export function atLeast(role: Role, needed: Role): boolean {
  return RANK[role] >= RANK[needed];
}

export function neededRole(needed: Role): string {
  return needed === "admin" ? "Needs the role admin" : `Needs the role ${needed} or admin`;
}
