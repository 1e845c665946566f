/** What the back office's log and timeline keep as names and values, as a person reads them. */
import { formatLocal } from "./dates";
import { show, type Facts } from "./diff";
import { formatCredits, formatMoney, formatNumber, humanize, MINUS } from "./format";

const NAMES: Record<string, string> = {
  paid: "Paid credits",
  paid_after: "Paid credits after it",
  from_daily_free: "From the day's free credits",
  from_free: "From free credits",
  from_paid: "From paid credits",
  credit_id: "Entry in the credits",
  status_reason: "Reason of the status",
  tokens_before: "Tokens refused that were made before",
  erased_at: "Erased",
  permissions: "It may",
  expires_at: "Expires",
  ip_allow_list: "Only from",
  rate_limit_per_minute: "Requests a minute",
  client_subject: "Client certificate",
  rotated_to: "Successor",
  grace_ends_at: "Old key works until",
  refunded_minor: "Given back",
  left_minor: "Left to refund",
  answer: "Answer",
  amount_minor: "Amount",
  credited: "Credits booked",
  review_reason: "For review because",
  events: "Events caught up on",
  payments: "Payments caught up on",
  failed: "Not done",
  disabled: "Locked out",
  sessions_revoked: "Sessions ended",
  free_uses: "Free credits",
  daily_free_uses: "Free credits a day",
  total_uses: "Uses of it so far",
  begun_at: "Begun",
  admin: "By",
  email: "E-mail address",
  window_h: "Hours",
  plan_name: "Plan",
  secret_key_tail: "Secret key ends in",
  webhook_secret_tail: "Webhook secret ends in",
  idempotency_key: "Idempotency key",
  external_transaction_id: "External id",
  transaction_type: "Type",
  request_id: "Request",
  payment_id: "Payment",
};
/** What no value means, where it means more than that there is none. */
const NOTHING: Record<string, string> = {
  expires_at: "never",
  ip_allow_list: "anywhere",
  rate_limit_per_minute: "as usual",
};
const CREDITS = new Set(["paid", "paid_after", "from_daily_free", "from_free", "from_paid", "credits"]);
const TIME = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}/;

/** Names in words, amounts with their unit, times in the reader's zone. A currency says what its neighbours are in. */
export function humanizeFacts(facts: Facts | null, timeZone?: string): Facts | null {
  if (facts === null) return null;
  const { currency, ...rest } = facts;
  const code = typeof currency === "string" ? currency : null;
  const hasMoney = code !== null && Object.keys(rest).some((name) => name.endsWith("_minor"));
  const named = Object.entries(hasMoney ? rest : facts);
  return Object.fromEntries(named.map(([name, value]) => [fieldLabel(name), humanizeValue(name, value, code, timeZone)]));
}

/** A refund's entry: what had been given back of a purchase, and what will have been. */
export function humanizeRefund(before: Facts | null, after: Facts | null): { before: Facts; after: Facts } {
  const { refunded_minor: had, currency } = before ?? {};
  const { refund_minor: more, idempotency_key } = after ?? {};
  const code = typeof currency === "string" ? currency : null;
  // Early entries name no currency.
  const money = (minor: number) => (code === null ? (minor / 100).toFixed(2) : formatMoney(minor, code));
  const hadMinor = typeof had === "number" ? had : 0;
  return {
    before: { "Given back": money(hadMinor) },
    after: { "Given back": typeof more === "number" ? money(hadMinor + more) : show(more), ...humanizeFacts(idempotency_key === undefined ? {} : { idempotency_key }) },
  };
}

export function fieldLabel(name: string): string {
  return NAMES[name] ?? humanize(name.replace(/_minor$/, ""));
}

function humanizeValue(name: string, value: unknown, currency: string | null, timeZone?: string): string {
  const empty = value === null || value === undefined || (Array.isArray(value) && value.length === 0);
  if (empty && name in NOTHING) return NOTHING[name] ?? "";
  if (typeof value === "number") {
    if (name.endsWith("_minor")) return moneyOf(value, currency);
    return CREDITS.has(name) ? formatCredits(value) : formatNumber(value);
  }
  if (typeof value === "string" && TIME.test(value)) return formatLocal(value, timeZone);
  if (name === "status" && typeof value === "string") return humanize(value).toLowerCase();
  return show(value);
}

/** Without a currency they are the wire's hundredths of a credit. */
function moneyOf(minor: number, currency: string | null): string {
  if (currency !== null) return formatMoney(minor, currency);
  if (minor % 100 === 0) return formatCredits(minor / 100);
  return `${(minor / 100).toFixed(2).replace("-", MINUS)} credits`;
}
