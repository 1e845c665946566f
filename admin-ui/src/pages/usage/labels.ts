import type { UsageEvent, UsageSumsQuery } from "../../api/models";
import type { Tone } from "../../components/Tag";
import { formatExact } from "../../logic/decimals";
import { humanize } from "../../logic/format";
import { className, METERS, TOKEN_CLASSES } from "../prices/labels";

export type Dimension = NonNullable<UsageSumsQuery["group_by"]>[number];

export const DIMENSIONS: Record<Dimension, string> = {
  user: "User",
  meter: "Meter",
  provider: "Provider",
  model: "Model",
  agent: "Agent",
  tool: "Tool",
  key: "API key",
  run: "Run",
  status: "Status",
  source: "Source",
  plan: "Plan",
};

/** The filter that a group's value sets. */
export function filterOf(dimension: Dimension): string {
  return dimension === "user" ? "account_id" : dimension;
}

export const STATUSES: Record<UsageEvent["status"], string> = {
  charged: "Charged",
  debt: "Charged, part owed",
  recorded: "Recorded, not billed",
  refused: "Refused",
};

export const STATUS_TONES: Record<UsageEvent["status"], Tone> = {
  charged: "good",
  debt: "warn",
  recorded: "info",
  refused: "bad",
};

export function meterName(meter: string): string {
  return (METERS as Record<string, string>)[meter] ?? humanize(meter);
}

/** Describe quantities, tokens in the order of their classes: "1,000 input, 100 output", "0.5 cpu hours". Other members, such as a mode, are named. */
export function quantitiesText(quantities: Record<string, unknown>): string {
  const names = [...new Set([...Object.keys(TOKEN_CLASSES), ...Object.keys(quantities)])].filter((name) => name in quantities);
  const parts = names.map((name) => [name, quantities[name]] as const).flatMap(([name, value]) => {
    const text = typeof value === "number" ? String(value) : typeof value === "string" ? value : null;
    if (text === null || text === "") return [];
    return /^\d+(\.\d+)?$/.test(text) ? [`${formatExact(text)} ${className(name).toLowerCase()}`] : [`${className(name).toLowerCase()} ${text}`];
  });
  return parts.join(", ") || "—";
}
