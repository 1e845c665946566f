/** The form of the one-time grants: the typed amounts, and the document that they parse to. */
import type { OneTimeGrantsDocument } from "../api/models";
import type { Errors, Parsed } from "./configuration";
import { isSupported } from "./currencies";
import { isZero } from "./decimals";
import { readWhole, type Bounds } from "./numbers";

export const GRANT_KINDS = ["signup", "daily", "referral_inviter", "referral_invitee"] as const;
export type GrantKind = (typeof GRANT_KINDS)[number];

export interface GrantDraft {
  amount: string;
  /** The typed days; empty: never. */
  days: string;
}

export type OneTimeDraft = { currency: string } & Record<GrantKind, GrantDraft>;

const AMOUNT = /^\d{1,10}(\.\d{1,9})?$/;
const CURRENCY = /^[A-Z]{3}$/;
export const GRANT_DAYS: Bounds = { least: 1, most: 3650, optional: true };

export function oneTimeDraft(document: OneTimeGrantsDocument): OneTimeDraft {
  const draftOf = (kind: GrantKind): GrantDraft => {
    const { amount, expires_after_days: days } = document[kind];
    return { amount, days: days == null ? "" : String(days) };
  };
  return {
    currency: document.currency,
    signup: draftOf("signup"),
    daily: draftOf("daily"),
    referral_inviter: draftOf("referral_inviter"),
    referral_invitee: draftOf("referral_invitee"),
  };
}

export function parseOneTime(draft: OneTimeDraft): Parsed<OneTimeGrantsDocument> {
  const errors: Errors = {};
  if (!CURRENCY.test(draft.currency)) errors.currency = "Enter three letters, such as USD";
  else if (!isSupported(draft.currency)) errors.currency = `Stripe does not support ${draft.currency}`;
  const grantOf = (kind: GrantKind) => {
    const { amount, days } = draft[kind];
    const expires = readWhole(days, GRANT_DAYS);
    if (!AMOUNT.test(amount)) errors[`${kind}.amount`] = "Enter an amount such as 5.00, or 0 for off";
    if (expires.problem !== null) errors[`${kind}.days`] = expires.problem;
    return { amount, expires_after_days: expires.value };
  };
  const document: OneTimeGrantsDocument = {
    currency: draft.currency,
    signup: grantOf("signup"),
    daily: grantOf("daily"),
    referral_inviter: grantOf("referral_inviter"),
    referral_invitee: grantOf("referral_invitee"),
  };
  return Object.keys(errors).length === 0 ? { document, errors: null } : { document: null, errors };
}

/** "5.00 USD, for 30 days", or "off" */
export function oneTimeFacts(document: OneTimeGrantsDocument): Record<string, string> {
  const { currency } = document;
  const sentence = ({ amount, days }: GrantDraft) =>
    isZero(amount) ? "off" : `${amount} ${currency}, ${days === "" ? "without expiry" : `for ${days} days`}`;
  const draft = oneTimeDraft(document);
  return { currency, ...Object.fromEntries(GRANT_KINDS.map((kind) => [kind, sentence(draft[kind])])) };
}
