/** Parsing of typed whole numbers. Text is parsed unchanged or rejected with a message. */
import { formatNumber } from "./format";

export interface Bounds {
  least: number;
  /** At most 15 digits, which a JavaScript number represents exactly. */
  most: number;
  /** Empty text is valid and means no value. */
  optional?: boolean;
}

/** Both `value` and `problem` are null when the text is empty and optional. */
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

/** Return why a text is not a whole number, based on its characters. */
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

/** Amounts above these need a confirmation in forms (listed in docs/back-office.md). */
export const UNUSUAL = {
  adjustedCredits: 10_000,
  grantedFreeUses: 1_000,
  grantedMoney: 1_000,
  refundMinor: 100_000,
  packCredits: 100_000,
  packPriceMinor: 100_000,
  productPriceCredits: 1_000,
  freeUses: 1_000,
} as const;
