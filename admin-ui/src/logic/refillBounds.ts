/** The form of the bounds of automatic refills: the typed values, and the document that they parse to. */
import type { RefillsDocument } from "../api/models";
import type { Errors, Parsed } from "./configuration";
import { isSupported } from "./currencies";
import { isZero } from "./decimals";
import { readWhole, type Bounds } from "./numbers";

export const REFILL_AMOUNTS = ["least_trigger", "least_amount", "most_amount", "most_monthly"] as const;
export type RefillAmount = (typeof REFILL_AMOUNTS)[number];

export type RefillsDraft = Record<RefillAmount | "currency" | "cooldown" | "backoff" | "consent", string>;

const AMOUNT = /^\d{1,10}(\.\d{1,9})?$/;
const CURRENCY = /^[A-Z]{3}$/;
const MONTH_S = 30 * 86_400;
const CONSENT_CHARS = { least: 20, most: 2000 };
export const COOLDOWN_S: Bounds = { least: 0, most: MONTH_S };
export const BACKOFF_S: Bounds = { least: 60, most: MONTH_S };

export function refillsDraft(document: RefillsDocument): RefillsDraft {
  const { currency, least_trigger, least_amount, most_amount, most_monthly, cooldown_s, backoff_s, consent_text } = document;
  return {
    currency,
    least_trigger,
    least_amount,
    most_amount,
    most_monthly,
    cooldown: String(cooldown_s),
    backoff: String(backoff_s),
    consent: consent_text,
  };
}

export function parseRefills(draft: RefillsDraft): Parsed<RefillsDocument> {
  const errors: Errors = {};
  if (!CURRENCY.test(draft.currency)) errors.currency = "Enter three letters, such as USD";
  else if (!isSupported(draft.currency)) errors.currency = `Stripe does not support ${draft.currency}`;
  for (const name of REFILL_AMOUNTS) {
    if (!AMOUNT.test(draft[name]) || isZero(draft[name])) errors[name] = "Enter an amount above 0, such as 5.00";
  }
  const cooldown = readWhole(draft.cooldown, COOLDOWN_S);
  const backoff = readWhole(draft.backoff, BACKOFF_S);
  if (cooldown.problem !== null) errors.cooldown = cooldown.problem;
  if (backoff.problem !== null) errors.backoff = backoff.problem;
  const { length } = draft.consent;
  if (length < CONSENT_CHARS.least || length > CONSENT_CHARS.most) {
    errors.consent = `Enter ${CONSENT_CHARS.least} to ${CONSENT_CHARS.most} characters`;
  }
  if (cooldown.value === null || backoff.value === null || Object.keys(errors).length > 0) return { document: null, errors };
  const { currency, least_trigger, least_amount, most_amount, most_monthly, consent: consent_text } = draft;
  const amounts = { least_trigger, least_amount, most_amount, most_monthly };
  return { document: { currency, ...amounts, cooldown_s: cooldown.value, backoff_s: backoff.value, consent_text }, errors: null };
}
