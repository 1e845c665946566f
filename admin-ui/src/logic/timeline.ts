import type { Move, TimelineEntry } from "../api/models";
import { formatAmount } from "./decimals";
import { formatChange, formatNumber, humanize } from "./format";

const POOLS: Record<string, string> = {
  paid: "Paid credits",
  free: "Free credits",
  daily_free: "Daily free credits",
  debt: "Debt",
  grant: "Grants",
  money: "Money",
};

/** Return a pool's label. A tool's pools, such as "image_gen/free", count uses of the tool. */
export function poolName(pool: string): string {
  const [tool, source] = pool.split("/");
  if (source === undefined || tool === undefined) return POOLS[pool] ?? humanize(pool);
  return `${humanize(tool)}, ${source} uses`;
}

function isFree(pool: string): boolean {
  return pool === "free" || pool === "daily_free" || pool.endsWith("/free");
}

/** Format a pool's change. A charge to a free pool is shown as "Free", with the number if it is more than one. */
export function amountOf({ pool, delta, unit, amount }: Move): string {
  if (amount !== null) return formatAmount(amount, unit).replace(/^(?![-\u2212])/, "+");
  if (!isFree(pool) || delta > 0) return formatChange(delta);
  return delta === -1 ? "Free" : `Free × ${formatNumber(-delta)}`;
}

/** Return the pool and its balance after the change: "Paid credits: 15 left". */
export function balanceOf({ pool, balance_after, unit, balance }: Move): string {
  if (balance !== null) return `${poolName(pool)}: ${formatAmount(balance, unit)} left`;
  return `${poolName(pool)}: ${formatNumber(balance_after)} ${pool === "debt" ? "owed" : "left"}`;
}

/** Whether only free pools were charged. */
export function wasFree({ moves }: Pick<TimelineEntry, "moves">): boolean {
  return moves.length > 0 && moves.every(({ pool, delta }) => delta < 0 && isFree(pool));
}
