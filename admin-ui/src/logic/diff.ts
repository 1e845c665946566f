/** Differences between two states of one object, as the audit log stores them. */

export type Facts = Record<string, unknown>;
export type Change = "added" | "removed" | "changed" | "same";
export interface DiffLine {
  name: string;
  change: Change;
  before: string | null;
  after: string | null;
}

/** Return one line for each name in either state, in the order of `before`, then of `after`. */
export function diff(before: Facts | null | undefined, after: Facts | null | undefined): DiffLine[] {
  const [was, is] = [before ?? {}, after ?? {}];
  return [...new Set([...Object.keys(was), ...Object.keys(is)])].map((name) => {
    const old = name in was ? show(was[name]) : null;
    const now = name in is ? show(is[name]) : null;
    return { name, change: changeOf(old, now), before: old, after: now };
  });
}

function changeOf(before: string | null, after: string | null): Change {
  if (before === null) return "added";
  if (after === null) return "removed";
  return before === after ? "same" : "changed";
}

export function show(value: unknown): string {
  if (value === null || value === undefined || value === "") return "none";
  if (typeof value === "string") return value;
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (Array.isArray(value)) return value.length === 0 ? "none" : value.map(show).join(", ");
  return JSON.stringify(value);
}

/** Return non-empty values as name and text; nested values are named by their path. */
export function flatten(facts: Facts, prefix = ""): [string, string][] {
  return Object.entries(facts).flatMap(([name, value]): [string, string][] => {
    if (value === null || value === undefined || value === "") return [];
    const path = prefix === "" ? name : `${prefix}.${name}`;
    if (typeof value === "object" && !Array.isArray(value)) return flatten(value as Facts, path);
    return [[path, show(value)]];
  });
}
