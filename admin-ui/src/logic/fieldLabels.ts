/** Labels and readable values for the fields of the audit log, the timeline and error messages. */
import { amountText } from "./amounts";
import { formatLocal } from "./dates";
import { show, type Facts } from "./diff";
import { formatCredits, formatMoney, formatNumber, humanize, MINUS } from "./format";

const NAMES: Record<string, string> = {
  paid: "Paid credits",
  paid_after: "Paid credits afterwards",
  from_daily_free: "From daily free credits",
  from_free: "From free credits",
  from_paid: "From paid credits",
  credit_id: "Credit id",
  status_reason: "Status reason",
  tokens_before: "Tokens revoked that were issued before",
  erased_at: "Erased",
  permissions: "Permissions",
  expires_at: "Expires",
  ip_allow_list: "Allowed networks",
  rate_limit_per_minute: "Requests per minute",
  client_subject: "Client certificate subject",
  identity_provider: "Identity provider",
  event_source: "Event source",
  usage_policy: "Usage without enough money",
  debt_limit_nanos: "Debt limit",
  max_cost_nanos: "Largest stated cost",
  double_charges: "Probable double charges",
  rotated_to: "Replaced by key",
  seen_in_force: "Version in force",
  seen_none_in_force: "Version in force",
  in_force: "Version in force",
  effective_at: "In force from",
  based_on: "Made from version",
  grant_id: "Grant id",
  grace_ends_at: "Old key valid until",
  refunded_minor: "Refunded",
  left_minor: "Refundable",
  answer: "Answer",
  amount_minor: "Amount",
  credited: "Credits booked",
  review_reason: "Review reason",
  events: "Events processed",
  payments: "Payments processed",
  failed: "Failed",
  disabled: "Disabled",
  sessions_revoked: "Sessions ended",
  free_uses: "Free credits",
  daily_free_uses: "Daily free credits",
  total_uses: "Total uses",
  begun_at: "Started",
  admin: "Admin",
  email: "E-mail address",
  window_h: "Period in hours",
  plan_name: "Plan",
  secret_key_tail: "Secret key ends in",
  webhook_secret_tail: "Webhook secret ends in",
  idempotency_key: "Idempotency key",
  external_transaction_id: "External transaction id",
  transaction_type: "Type",
  request_id: "Request id",
  payment_id: "Payment id",
};
/** Labels of empty values, for fields where emptiness has a meaning. */
const EMPTY_VALUES: Record<string, string> = {
  expires_at: "never",
  ip_allow_list: "any",
  rate_limit_per_minute: "default",
};
const CREDITS = new Set(["paid", "paid_after", "from_daily_free", "from_free", "from_paid", "credits"]);
const TIME = /^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}:\d{2}/;

/** Return labels and formatted values: amounts with their unit, times in the reader's zone. `currency` is the unit of the `_minor` fields beside it. */
export function humanizeFacts(facts: Facts | null, timeZone?: string): Facts | null {
  if (facts === null) return null;
  const { currency, ...rest } = facts;
  const code = typeof currency === "string" ? currency : null;
  const hasMoney = code !== null && Object.keys(rest).some((name) => name.endsWith("_minor"));
  const named = Object.entries(hasMoney ? rest : facts);
  return Object.fromEntries(named.map(([name, value]) => [fieldLabel(name), humanizeValue(name, value, code, timeZone)]));
}

/** A refund without an amount returns all remaining money. */
const FULL_REFUND = "full amount";

/** Return the total refunded amount before and after a refund, for its audit log entry. */
export function humanizeRefund(before: Facts | null, after: Facts | null): { before: Facts; after: Facts } {
  const { refunded_minor: had, currency } = before ?? {};
  const { refund_minor: more, idempotency_key } = after ?? {};
  const code = typeof currency === "string" ? currency : null;
  // Early audit log entries have no currency.
  const money = (minor: number) => (code === null ? (minor / 100).toFixed(2) : formatMoney(minor, code));
  const hadMinor = typeof had === "number" ? had : 0;
  return {
    before: { "Refunded": money(hadMinor) },
    after: { "Refunded": typeof more === "number" ? money(hadMinor + more) : FULL_REFUND, ...humanizeFacts(idempotency_key === undefined ? {} : { idempotency_key }) },
  };
}

export function fieldLabel(name: string): string {
  return NAMES[name] ?? humanize(name.replace(/_(minor|nanos)$/, ""));
}

function humanizeValue(name: string, value: unknown, currency: string | null, timeZone?: string): string {
  const empty = value === null || value === undefined || (Array.isArray(value) && value.length === 0);
  if (empty && name in EMPTY_VALUES) return EMPTY_VALUES[name] ?? "";
  if (typeof value === "number") {
    if (name.endsWith("_minor")) return moneyOf(value, currency);
    if (name.endsWith("_nanos")) return amountText(value);
    return CREDITS.has(name) ? formatCredits(value) : formatNumber(value);
  }
  if (typeof value === "string" && TIME.test(value)) return formatLocal(value, timeZone);
  if (name === "status" && typeof value === "string") return humanize(value).toLowerCase();
  return show(value);
}

/** Without a currency, `_minor` fields are hundredths of a credit. */
function moneyOf(minor: number, currency: string | null): string {
  if (currency !== null) return formatMoney(minor, currency);
  if (minor % 100 === 0) return formatCredits(minor / 100);
  return `${(minor / 100).toFixed(2).replace("-", MINUS)} credits`;
}
