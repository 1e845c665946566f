/** Refused requests: the remedies of the answer as sentences, and the charge that a refused one repeats. */
import type { Refusal } from "../api/models";
import { formatLocal } from "./dates";
import { formatAmount } from "./decimals";
import { formatCount, formatCredits, formatMoney, humanize } from "./format";

export const DOUBLE_CHARGE = "probable_double_charge";
type Known = Record<string, unknown>;

const TEXTS: Record<string, (remedy: Known) => string> = {
  smaller_amount: ({ amount_minor, amount, currency }) =>
    `Spend at most ${typeof amount_minor === "number" ? formatCredits(amount_minor / 100) : formatAmount(text(amount), text(currency))}`,
  cheaper_model: ({ model, cost, currency }) => `Use ${text(model)} for ${formatAmount(text(cost), text(currency))}`,
  wait: ({ until }) => `Wait until ${formatLocal(text(until))}`,
  request_approval: () => "Wait for a person's approval",
  purchase: ({ count, pack, price_minor, currency }) =>
    `Buy ${formatCount(Number(count), "pack")} “${text(pack)}” for ${formatMoney(Number(price_minor), text(currency))} each`,
};

/** List the remedies of a refusal. A remedy of an unknown type is shown by its type. */
export function remediesOf({ figures }: Pick<Refusal, "figures">): string[] {
  const { remedies } = figures;
  return Array.isArray(remedies) ? remedies.map(remedyText).filter((found) => found !== null) : [];
}

/** Return the id of the charge that a refused double charge repeats. */
export function firstChargeOf({ code, figures }: Pick<Refusal, "code" | "figures">): string | null {
  const { charge_id } = figures;
  return code === DOUBLE_CHARGE && typeof charge_id === "string" ? charge_id : null;
}

function remedyText(remedy: unknown): string | null {
  if (typeof remedy !== "object" || remedy === null) return null;
  const { type, ...rest } = remedy as Known;
  if (typeof type !== "string") return null;
  try {
    return TEXTS[type]?.(rest) ?? humanize(type);
  } catch {
    return humanize(type); // stored by another version, with other members
  }
}

function text(value: unknown): string {
  if (typeof value !== "string") throw new TypeError("not a text");
  return value;
}
