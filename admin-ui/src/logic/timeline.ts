import type { Move, TimelineEntry } from "../api/models";
import { formatChange, formatNumber, humanize } from "./format";

const POOLS: Record<string, string> = {
  paid: "Paid credits",
  free: "Free credits",
  daily_free: "Free credits of the day",
  debt: "Debt",
};

/** A tool's own pools count uses of the tool: "image_gen/free". */
export function poolName(pool: string): string {
  const [tool, source] = pool.split("/");
  if (source === undefined || tool === undefined) return POOLS[pool] ?? humanize(pool);
  return `${humanize(tool)}, ${source} uses`;
}

function isFree(pool: string): boolean {
  return pool === "free" || pool === "daily_free" || pool.endsWith("/free");
}

/** What a pool lost or got. What a free pool paid is called free, with how much where it was more than one. */
export function amountOf({ pool, delta }: Move): string {
  if (!isFree(pool) || delta > 0) return formatChange(delta);
  return delta === -1 ? "Free" : `Free × ${formatNumber(-delta)}`;
}

/** The pool and its balance right after: "Paid credits: 15 left". */
export function balanceOf({ pool, balance_after }: Move): string {
  return `${poolName(pool)}: ${formatNumber(balance_after)} ${pool === "debt" ? "owed" : "left"}`;
}

/** Whether nothing but free pools paid. */
export function wasFree({ moves }: Pick<TimelineEntry, "moves">): boolean {
  return moves.length > 0 && moves.every(({ pool, delta }) => delta < 0 && isFree(pool));
}
