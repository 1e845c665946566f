/** Whole numbers as people type them. A text is read as it is, or refused with a message: it is never changed. */
import { formatNumber } from "./format";

export interface Bounds {
  least: number;
  /** At most 15 digits, so that a number holds it exactly. */
  most: number;
  /** An empty text is a value too: none. */
  optional?: boolean;
}

/** `value` null without a `problem`: the text is empty, and may be. */
export type Whole = { value: number; problem: null } | { value: null; problem: string | null };

const MOST_DIGITS = 15;

export function readWhole(text: string, { least, most, optional = false }: Bounds): Whole {
  if (text === "") return { value: null, problem: optional ? null : "Enter a whole number" };
  if (!/^\d+$/.test(text)) return { value: null, problem: problemOf(text) };
  const digits = text.replace(/^0+(?=\d)/, "");
  if (digits.length > MOST_DIGITS || Number(digits) > most) return { value: null, problem: `At most ${formatNumber(most)}` };
  if (Number(digits) < least) return { value: null, problem: `At least ${formatNumber(least)}` };
  return { value: Number(digits), problem: null };
}

export function isWhole(text: string, bounds: Bounds): boolean {
  return readWhole(text, bounds).problem === null;
}

/** Why a text is no whole number, in terms of what was typed. */
function problemOf(text: string): string {
  if (text.trim() === "") return "Enter a whole number, not blanks";
  if (/^\s|\s$/.test(text)) return "Remove the blanks around the number";
  if (/^[-\u2212]/.test(text)) return "Enter a number without a minus sign";
  if (/^\d+e\d+$/i.test(text)) return "Write out all digits: no exponent";
  if (/^\d{1,3}([,.'’\s]\d{3})+$/.test(text)) return "Enter digits only: no thousands separators";
  if (/^\d*[.,]\d+$/.test(text)) return "Enter a whole number: no decimals";
  if (/^\p{Nd}+$/u.test(text)) return "Use the digits 0 to 9";
  return "Enter a whole number, with the digits 0 to 9";
}

/** From how much on a form asks whether the amount is meant (docs/back-office.md has the list). */
export const UNUSUAL = {
  adjustedCredits: 10_000,
  grantedFreeUses: 1_000,
  refundMinor: 100_000,
  packCredits: 100_000,
  packPriceMinor: 100_000,
  productPriceCredits: 1_000,
  freeUses: 1_000,
} as const;
