import type { QueuedApproval } from "../api/models";
import { formatAmount, formatExact } from "./decimals";
import { humanize } from "./format";

/** Format an amount of a limit: "25 credits", "1 use", "10.00 USD". */
export function limitAmount(amount: string, unit: string): string {
  if (unit === "credits" || unit === "uses") return `${formatExact(amount)} ${amount === "1" ? unit.slice(0, -1) : unit}`;
  return formatAmount(amount, unit);
}

const WINDOWS: Record<NonNullable<QueuedApproval["limit"]>["window"], string> = {
  minute: "a minute",
  hour: "an hour",
  day: "a day",
  month: "a month",
  lifetime: "in all",
};

/** Describe what refused: "limit of 10.00 USD a day of agent scout", "paused run r". */
export function refusedBy({ kind, limit, refused_run_id }: Pick<QueuedApproval, "kind" | "limit" | "refused_run_id">): string {
  if (limit === null) return `${kind === "resume" ? "paused run" : "budget of run"} ${refused_run_id ?? "(erased)"}`;
  return `limit of ${limitOf(limit)}`;
}

function limitOf(limit: NonNullable<QueuedApproval["limit"]>): string {
  const scope = limit.scope_value === null ? "" : ` of ${limit.scope} ${limit.scope_value}`;
  return `${limitAmount(limit.amount, limit.unit)} ${WINDOWS[limit.window]}${scope}`;
}

/** Name the requester: "agent scout · tool painter". */
export function requesterOf(approval: Pick<QueuedApproval, "agent_id" | "model" | "tool" | "run_id" | "key_id">): string {
  const { agent_id, model, tool, run_id, key_id } = approval;
  const names = { agent: agent_id, model, tool, run: run_id, key: key_id };
  const known = Object.entries(names).filter(([, name]) => name !== null);
  return known.map(([kind, name]) => `${kind} ${name}`).join(" · ") || "unknown";
}

export function approvalStatus({ status }: Pick<QueuedApproval, "status">): string {
  return status === "pending" ? "Waits" : humanize(status);
}
