/** Runs of an account: amounts in credits and money, budgets, and names of calls. */
import type { Run, RunCalls, RunReceipt } from "../api/models";
import { formatAmount, isZero } from "./decimals";
import { formatCredits, humanize } from "./format";

export type Amounts = Run["spent"];

export const RUN_STATUSES: Record<Run["status"], string> = { open: "Open", paused: "Paused", closed: "Closed" };
const KINDS: Record<RunCalls["kind"], string> = {
  charge: "Charge",
  tool_charge: "Tool charge",
  usage: "Usage event",
  hold: "Hold",
  cost_record: "Cost record",
};

/** Format what was spent, without the unit of which nothing was: "3 credits and 0.25 USD". */
export function amountsText({ amount_minor, amount }: Amounts, currency: string): string {
  const credits = amount_minor === null || amount_minor === 0 ? null : formatCredits(amount_minor / 100);
  const money = amount === null || isZero(amount) ? null : formatAmount(amount, currency);
  const parts = [credits, money].filter((part) => part !== null);
  if (parts.length > 0) return parts.join(" and ");
  return amount_minor === null ? formatAmount("0", currency) : formatCredits(0);
}

/** Return the used percentage of a budget, at most 100; null: there is none. */
export function budgetPercent({ budget, remaining }: Pick<Run, "budget" | "remaining">): number | null {
  if (budget === null || remaining === null) return null;
  const [all, left] = [budget, remaining].map(({ amount_minor, amount }) => Number(amount ?? amount_minor)) as [number, number];
  return all === 0 ? 100 : Math.min(100, (1 - left / all) * 100);
}

/** Name a group of calls: "Tool charge · agent scout · web_search". */
export function callName({ kind, agent_id, tool, model }: Pick<RunCalls, "kind" | "agent_id" | "tool" | "model">): string {
  return [KINDS[kind], agent_id && `agent ${agent_id}`, tool, model].filter(Boolean).join(" · ");
}

/** Name an outcome: "Charged", or the status of the event, hold or cost record. */
export function outcomeName({ outcome, calls, attempts }: Pick<RunCalls, "outcome" | "calls" | "attempts">): string {
  return attempts > calls ? `${humanize(outcome)}, sent ${String(attempts)} times` : humanize(outcome);
}

export interface TreeRow {
  receipt: RunReceipt;
  /** 0 for the run itself. */
  level: number;
}

/** List a receipt's runs in the order of the tree, each with its level. */
export function rowsOf(receipt: RunReceipt, level = 0): TreeRow[] {
  return [{ receipt, level }, ...receipt.runs.flatMap((below) => rowsOf(below, level + 1))];
}
