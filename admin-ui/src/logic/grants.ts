/** Grants: amounts in their unit, labels, and what forbids giving one. */
import type { Grant } from "../api/models";
import { readAmount } from "./amounts";
import { formatAmount, formatExact, isZero } from "./decimals";
import { formatCredits, formatNumber } from "./format";
import { readWhole, UNUSUAL, type Bounds } from "./numbers";

export type GrantUnit = "credits" | "money";

export const CATEGORIES = { compensation: "Compensation", promotional: "Promotion", subscription: "Plan allowance" } as const;
export type GrantCategory = keyof typeof CATEGORIES;
const ALL_CATEGORIES: Record<string, string> = { ...CATEGORIES, purchased: "Purchased" };
export const GRANTED_CREDITS: Bounds = { least: 1, most: 1_000_000_000 };
export const PRIORITY: Bounds = { least: 0, most: 100 };

export function categoryName(category: string): string {
  return ALL_CATEGORIES[category] ?? category;
}

/** Format an amount in a grant's unit: "1 credit", "5.00 USD". */
export function grantAmount(amount: string, unit: Grant["unit"]): string {
  if (unit !== "credit") return formatAmount(amount, unit);
  return amount === "1" ? "1 credit" : `${formatExact(amount)} credits`;
}

export interface GrantDraft {
  /** The amount as text with its unit; null: the text is empty or not an amount. */
  amount: string | null;
  problem: string | null;
  unusual: string | null;
}

/** Check a typed amount. The limit is the role's, in credits or in the major unit; null: there is none. */
export function draftOf(unit: GrantUnit, text: string, currency: string, limit: number | null): GrantDraft {
  const { amount, problem, size } = unit === "credits" ? creditsOf(text) : moneyOf(text, currency);
  const tooLarge = limit !== null && size > limit ? "Exceeds the limit of your role: ask an admin" : null;
  const most = unit === "credits" ? UNUSUAL.adjustedCredits : UNUSUAL.grantedMoney;
  return { amount, problem: problem ?? (amount === null ? null : tooLarge), unusual: amount !== null && size > most ? amount : null };
}

/** Return the sentence that describes a limit; undefined: there is no limit. */
export function limitText(unit: GrantUnit, currency: string, limit: number | null): string | undefined {
  if (limit === null) return undefined;
  return `Your role can give up to ${unit === "credits" ? formatCredits(limit) : `${formatNumber(limit)} ${currency}`} at once`;
}

interface Read {
  amount: string | null;
  problem: string | null;
  size: number;
}

function creditsOf(text: string): Read {
  const { value, problem } = readWhole(text, GRANTED_CREDITS);
  return { amount: value === null ? null : formatCredits(value), problem, size: value ?? 0 };
}

/** The text stays the amount: a float would change it. Its size only selects the warnings. */
function moneyOf(text: string, currency: string): Read {
  const { value, problem } = readAmount(text);
  if (value === null) return { amount: null, problem: problem ?? "Enter an amount", size: 0 };
  if (isZero(text)) return { amount: null, problem: "Enter more than 0", size: 0 };
  return { amount: formatAmount(text, currency), problem: null, size: value / 1e9 };
}
