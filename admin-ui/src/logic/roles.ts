import type { Role } from "../api/models";

const RANK: Record<Role, number> = { viewer: 0, support: 1, admin: 2 };

export const ROLES: { value: Role; label: string; description: string }[] = [
  { value: "viewer", label: "Viewer", description: "Read-only access to all pages" },
  { value: "support", label: "Support", description: "Can adjust credits up to a limit, and suspend and reopen accounts" },
  { value: "admin", label: "Admin", description: "Full access, including API keys, refunds, closing accounts and other admins" },
];

export function atLeast(role: Role, needed: Role): boolean {
  return RANK[role] >= RANK[needed];
}

export function neededRole(needed: Role): string {
  return needed === "admin" ? "Requires the admin role" : `Requires the ${needed} or admin role`;
}
