import type { Environment, TimelineEntry, UserRow, UsersQuery } from "../../api/models";

export const STATUSES: Record<UserRow["status"], string> = { active: "Active", suspended: "Suspended", closed: "Closed" };
export const ENVIRONMENTS: Record<Environment, string> = { live: "Live", test: "Test" };
export const BALANCES: Record<NonNullable<UsersQuery["balance"]>, string> = {
  empty: "No credits",
  paid: "Paid credits",
  debt: "In debt",
};
export const SORTS: Record<Exclude<NonNullable<UsersQuery["sort"]>, "newest">, string> = {
  balance: "Highest balance",
  last_activity: "Last activity",
};
export const KINDS: Record<TimelineEntry["kind"], string> = {
  charge: "Charges",
  tool_use: "Tool uses",
  usage: "Usage events",
  credit: "Credits",
  money: "Money",
  grant: "Grants",
  purchase: "Purchases",
  admin: "Admin actions",
};
