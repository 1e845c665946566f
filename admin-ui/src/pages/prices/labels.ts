import type { PriceBook, PriceChange, PriceRow, UnknownModel } from "../../api/models";
import type { Tone } from "../../components/Tag";
import { formatNumber, humanize } from "../../logic/format";

export const STATES: Record<PriceBook["state"], { label: string; tone: Tone }> = {
  proposed: { label: "Proposed", tone: "quiet" },
  scheduled: { label: "Scheduled", tone: "info" },
  in_force: { label: "In force", tone: "good" },
  replaced: { label: "Replaced", tone: "quiet" },
};

export const STATUSES: Record<PriceRow["status"], string> = {
  agreed: "Agreed",
  single_source: "Single source",
  disputed: "Disputed",
  confirmed: "Confirmed",
};

export const STATUS_TONES: Record<PriceRow["status"], Tone> = {
  agreed: "good",
  single_source: "info",
  disputed: "bad",
  confirmed: "good",
};

/** The meters that are built in. */
export const METERS = {
  llm_tokens: "LLM tokens",
  compute: "Compute",
  api_calls: "API calls",
  tool_calls: "Tool calls",
} as const;

export const TOKEN_CLASSES = {
  input_uncached: "Input",
  cache_read: "Cache read",
  cache_write_5m: "Cache write, 5 min",
  cache_write_1h: "Cache write, 1 h",
  output_text: "Output",
  reasoning: "Reasoning",
  audio_in: "Audio in",
  audio_out: "Audio out",
  image_in: "Image in",
  image_out: "Image out",
} as const;
export type TokenClass = keyof typeof TOKEN_CLASSES;

export const KINDS: Record<PriceChange["kind"], { label: string; tone: Tone }> = {
  added: { label: "Added", tone: "good" },
  removed: { label: "Removed", tone: "bad" },
  changed: { label: "Changed", tone: "warn" },
};

export const SECTIONS: Record<string, string> = {
  book: "Book",
  llm: "Model",
  api_calls: "API calls",
  tool_calls: "Tool calls",
  meters: "Meter",
  markups: "Markup",
};

const REASONS: Record<string, string> = {
  no_row: "The price book has no row for it",
  not_yet_valid: "The price is not valid yet at the event's time",
  disputed: "The price is disputed and not confirmed",
  no_price_for_mode: "The mode has no price",
  no_price_for_class: "A token class has no price",
  cost_too_large: "The cost does not fit 64 bits",
};

export const OUTCOMES: Record<UnknownModel["outcome"], string> = {
  refused: "Refused",
  stated_price: "Charged the price for unknown models",
};

/** Describe why usage has no price: "no_price_for_mode: batch". */
export function reasonOf(problem: string): string {
  const [reason = "", about] = problem.split(": ");
  const text = REASONS[reason] ?? humanize(reason);
  return about === undefined ? text : `${text}: ${className(about)}`;
}

/** Return the label of a token class, or the name of another item. */
export function className(name: string): string {
  return (TOKEN_CLASSES as Record<string, string>)[name] ?? humanize(name);
}

const ALIAS = "provider_aliases.";

/** Return the name of a changed field: "prices.output_text" is "Output", "steps[0].above" stays readable. */
export function fieldName(field: string): string {
  const path = field.replace(/^prices\./, "");
  if (path in TOKEN_CLASSES) return className(path);
  if (path.startsWith(ALIAS)) return `Provider alias ${path.slice(ALIAS.length)}`;
  return humanize(path.replaceAll(/\[(\d+)\]/g, (_match, index: string) => `_${String(Number(index) + 1)}_`));
}

/** The provider of a row that prices its model for every provider. */
const ANY_PROVIDER = "*";

export function providerName(provider: string): string {
  return provider === ANY_PROVIDER ? "Any provider" : provider || "Empty name";
}

/** Return a row's prices per million tokens, in the order of the classes. */
export function pricesOf(prices: Record<string, string>): [string, string][] {
  return Object.keys(TOKEN_CLASSES).flatMap((name): [string, string][] => {
    const price = prices[name];
    return price === undefined ? [] : [[className(name), price]];
  });
}

/** "per 1,000,000", "each". */
export function perOf(per: number): string {
  return per === 1 ? "each" : `per ${formatNumber(per)}`;
}
