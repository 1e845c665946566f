/** Limits of an account's spending: labels, amounts, and the share of a window that is used. */
import type { Limit, LimitBody } from "../api/models";
import { readAmount } from "./amounts";
import { formatAmount, formatExact } from "./decimals";
import { readWhole, type Bounds } from "./numbers";

export const WINDOWS: Record<Limit["window"], string> = {
  minute: "Minute",
  hour: "Hour",
  day: "Day",
  month: "Month",
  lifetime: "Lifetime",
};
export const UNITS: Record<LimitBody["unit"], string> = { credits: "Credits", money: "Money", uses: "Uses" };
export const SCOPES: Record<Limit["scope"], string> = {
  account: "Whole account",
  key: "API key",
  agent: "Agent",
  model: "Model",
  tool: "Tool",
};
export const ACTIONS: Record<Limit["action"], string> = { refuse: "Refuse", notify: "Notify only",
  ask: "Ask a person above it" };
export const OWNERS: Record<Limit["owner"], string> = { operator: "Operator", user: "User" };
const WHOLE: Bounds = { least: 0, most: 999_999_999_999_999 };

const ONE: Record<string, string> = { credits: "1 credit", uses: "1 use" };

/** Format an amount in a limit's unit: "5 credits", "2.50 USD", "1 use". */
export function limitAmount(amount: string, unit: string): string {
  const one = ONE[unit];
  if (one === undefined) return formatAmount(amount, unit);
  return amount === "1" ? one : `${formatExact(amount)} ${unit}`;
}

/** Return what a limit is about: "Whole account", "Agent scout". */
export function scopeName({ scope, scope_value }: Pick<Limit, "scope" | "scope_value">): string {
  return scope_value === null ? SCOPES[scope] : `${SCOPES[scope]} ${scope_value}`;
}

/** Return the used percentage of a limit, at most 100. The texts beside the bar are exact. */
export function usedPercent({ spent, amount }: Pick<Limit, "spent" | "amount">): number {
  if (Number(amount) === 0) return 100;
  return Math.min(100, (Number(spent) / Number(amount)) * 100);
}

/** Return why a typed amount cannot be set; null: it can. */
export function amountProblem(unit: LimitBody["unit"], text: string): string | null {
  if (text === "") return "Enter an amount";
  return unit === "money" ? readAmount(text).problem : readWhole(text, WHOLE).problem;
}
