import { pathWith } from "../../logic/filters";

/** The actions that the filter offers. The log can contain others, which a URL can select. */

export const ACTIONS: Record<string, string> = {
  "account.adjust": "Adjusted credits",
  "account.grant_free": "Granted free credits",
  "account.give_grant": "Gave a grant",
  "approval.approve": "Approved a request above a limit",
  "approval.deny": "Denied a request above a limit",
  "account.end_grant": "Ended a grant",
  "account.set_limit": "Set a limit",
  "account.remove_limit": "Removed a limit",
  "account.set_refills": "Set automatic refills",
  "account.remove_card": "Removed a saved card",
  "account.suspend": "Suspended an account",
  "account.reopen": "Reopened an account",
  "account.close": "Closed an account",
  "account.set_billing": "Changed whether usage is charged",
  "account.revoke_tokens": "Revoked a user's tokens",
  "account.export": "Exported a user's data",
  "account.erase": "Erased a person",
  "api_key.create": "Created an API key",
  "api_key.change": "Changed an API key",
  "api_key.rotate": "Rotated an API key",
  "api_key.revoke": "Revoked an API key",
  "purchase.refund": "Refunded a purchase",
  "purchase.refund_refused": "Stripe refused a refund",
  "purchase.reconcile": "Requested reconciliation of a purchase",
  "purchase.reconciled": "Reconciled a purchase",
  "purchase.reconcile_all": "Requested reconciliation of all purchases",
  "purchase.reconciled_all": "Reconciled all purchases",
  "alert.dismiss": "Dismissed an alert",
  "alert.hold": "Held an alert's accounts",
  "alert.suspend": "Suspended an alert's accounts",
  "alert.reopen": "Reopened an alert",
  "alert.open_again": "Reopened an alert after new findings",
  "alert_rule.change": "Changed a rule",
  "config.change": "Changed the configuration",
  "plan.withdraw": "Withdrew a plan",
  "price_book.propose": "Proposed a price book",
  "price_book.confirm": "Confirmed disputed prices",
  "price_book.activate": "Put a price book in force",
  "usage.rerate": "Began to correct charged usage",
  "usage.rerated": "Corrected charged usage",
  "admin.invite": "Invited an admin",
  "admin.change": "Changed an admin",
  "admin.revoke_sessions": "Ended an admin's sessions",
  "job.retry": "Retried a job",
  "list.export": "Exported a list",
  "session.open": "Signed in",
  "session.close": "Signed out",
};

export const TARGETS: Record<string, string> = {
  account: "Account",
  api_key: "API key",
  purchase: "Purchase",
  alert: "Alert",
  alert_rule: "Rule",
  config: "Configuration",
  plan: "Plan",
  price_book: "Price book",
  admin: "Admin",
  session: "Session",
  system: "System",
  job: "Job",
  list: "List",
};

/** Return the page of an entry's target; null: it has none. */
export function pageOf(targetType: string, targetId: string): string | null {
  if (targetType === "account") return `/users/${targetId}`;
  if (targetType === "purchase") return `/purchases/${targetId}`;
  if (targetType === "alert") return `/alerts/${targetId}`;
  if (targetType === "alert_rule") return "/alerts";
  if (targetType === "api_key") return "/api-keys";
  if (targetType === "config") return pathWith("/configuration", { section: targetId.replace(/^provider_.*/, "providers") });
  if (targetType === "plan") return `/subscriptions/plans/${targetId}`;
  if (targetType === "price_book") return `/price-books/${targetId}`;
  if (targetType === "admin") return "/admins";
  if (targetType === "job") return "/system";
  return null;
}
