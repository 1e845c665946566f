/** Credit adjustments: the pool, the amount, and what forbids them. */
import type { User } from "../api/models";
import { formatCount, formatCredits } from "./format";
import { readWhole, UNUSUAL, type Bounds } from "./numbers";

export type Direction = "add" | "grant" | "deduct";

export interface Adjustment {
  /** The signed amount; null: the typed text is empty or not a valid number. */
  credits: number | null;
  /** Why a valid number is not allowed; null: it is. */
  problem: string | null;
  unusual: string | null;
  confirm: string;
  sentence: string;
}

export const CREDITS: Record<Direction, Bounds> = {
  add: { least: 1, most: 1_000_000_000_000 },
  deduct: { least: 1, most: 1_000_000_000_000 },
  grant: { least: 1, most: 1_000_000_000 },
};

export function adjustmentOf(direction: Direction, text: string, user: User, name: string, limit: number | null): Adjustment {
  const { value } = readWhole(text, CREDITS[direction]);
  const pool = direction === "grant" ? "free" : "paid";
  const has = user[pool];
  const credits = value === null ? null : direction === "deduct" ? -value : value;
  const problem = value === null ? null : problemOf(value, direction, user, limit);
  const verb = { add: "Add", grant: "Grant", deduct: "Deduct" }[direction];
  const amountOf = (many: number) => (pool === "free" ? formatCount(many, "free credit") : formatCredits(many));
  const bound = direction === "grant" ? UNUSUAL.grantedFreeUses : UNUSUAL.adjustedCredits;
  return {
    credits,
    problem,
    unusual: value !== null && value > bound ? amountOf(value) : null,
    confirm: value === null ? "Adjust" : `${verb} ${amountOf(value)}`,
    sentence:
      credits === null || problem !== null
        ? `${name} has ${formatCount(has, `${pool} credit`)}.`
        : `${name}: ${formatCount(has, `${pool} credit`)} now, ${formatCredits(has + credits)} afterwards. Recorded in the ledger and the audit log.`,
  };
}

function problemOf(size: number, direction: Direction, user: User, limit: number | null): string | null {
  if (direction === "deduct" && size > user.paid) return `The balance is ${formatCredits(user.paid)}: a deduction cannot create debt`;
  return limit !== null && size > limit ? "Exceeds the limit of your role: ask an admin" : null;
}
