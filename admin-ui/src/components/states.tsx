import type { AdminUser, ApiKey, Environment, PurchaseRow, Subscription, UserRow } from "../api/models";
import { humanize } from "../logic/format";
import { PURCHASE_STATES } from "../logic/purchases";
import { SUBSCRIPTION_STATUSES } from "../logic/subscriptions";
import { Tag, type Tone } from "./Tag";

const ACCOUNT: Record<UserRow["status"], Tone> = { active: "good", suspended: "bad", closed: "quiet" };
const KEY: Record<ApiKey["status"], Tone> = { active: "good", rotated: "warn", expired: "quiet", revoked: "quiet" };
const ROLE: Record<AdminUser["role"], Tone> = { admin: "info", support: "quiet", viewer: "quiet" };
const PURCHASE: Partial<Record<PurchaseRow["state"], Tone>> = {
  succeeded: "good",
  partially_refunded: "warn",
  processing: "info",
  requires_action: "warn",
  failed: "bad",
};

const SUBSCRIPTION: Partial<Record<Subscription["status"], Tone>> = {
  active: "good",
  trialing: "info",
  past_due: "warn",
  unpaid: "bad",
  incomplete: "warn",
};

export function AccountTag({ status }: { status: UserRow["status"] }) {
  return <Tag tone={ACCOUNT[status]}>{humanize(status)}</Tag>;
}

export function KeyTag({ status }: { status: ApiKey["status"] }) {
  return <Tag tone={KEY[status]}>{status === "rotated" ? "Rotated, still valid" : humanize(status)}</Tag>;
}

export function RoleTag({ role }: { role: AdminUser["role"] }) {
  return <Tag tone={ROLE[role]}>{humanize(role)}</Tag>;
}

export function PurchaseTag({ state }: { state: PurchaseRow["state"] }) {
  return <Tag tone={PURCHASE[state] ?? "quiet"}>{PURCHASE_STATES[state]}</Tag>;
}

export function SubscriptionTag({ status }: { status: Subscription["status"] }) {
  return <Tag tone={SUBSCRIPTION[status] ?? "quiet"}>{SUBSCRIPTION_STATUSES[status]}</Tag>;
}

export function EnvironmentTag({ environment }: { environment: Environment }) {
  return <Tag tone={environment === "live" ? "info" : "warn"}>{humanize(environment)}</Tag>;
}
