/** What the dialog that adjusts credits is about to do: which pool moves, by how much, and what forbids it. */
import type { User } from "../api/models";
import { formatCount, formatCredits } from "./format";
import { readWhole, UNUSUAL, type Bounds } from "./numbers";

export type Direction = "give" | "grant" | "take";

export interface Adjustment {
  /** With its sign; null: no number was typed yet, or none that is one. */
  credits: number | null;
  /** What is wrong beyond the number itself. */
  beyond: string | null;
  unusual: string | null;
  confirm: string;
  sentence: string;
}

export const CREDITS: Record<Direction, Bounds> = {
  give: { least: 1, most: 1_000_000_000_000 },
  take: { least: 1, most: 1_000_000_000_000 },
  grant: { least: 1, most: 1_000_000_000 },
};

export function adjustmentOf(direction: Direction, text: string, user: User, name: string, limit: number | null): Adjustment {
  const { value } = readWhole(text, CREDITS[direction]);
  const pool = direction === "grant" ? "free" : "paid";
  const has = user[pool];
  const credits = value === null ? null : direction === "take" ? -value : value;
  const beyond = value === null ? null : problemOf(value, direction, user, limit);
  const verb = { give: "Give", grant: "Give", take: "Take" }[direction];
  const amountOf = (many: number) => (pool === "free" ? formatCount(many, "free credit") : formatCredits(many));
  const bound = direction === "grant" ? UNUSUAL.grantedFreeUses : UNUSUAL.adjustedCredits;
  return {
    credits,
    beyond,
    unusual: value !== null && value > bound ? amountOf(value) : null,
    confirm: value === null ? "Adjust" : `${verb} ${amountOf(value)}`,
    sentence:
      credits === null || beyond !== null
        ? `${name} has ${formatCount(has, `${pool} credit`)}.`
        : `${name}: ${formatCount(has, `${pool} credit`)} now, ${formatCredits(has + credits)} afterwards. The ledger and the audit log will show it.`,
  };
}

function problemOf(size: number, direction: Direction, user: User, limit: number | null): string | null {
  if (direction === "take" && size > user.paid) return `Only ${formatCredits(user.paid)} are there: nothing becomes debt`;
  return limit !== null && size > limit ? "More than your role may move at once: ask an admin" : null;
}
