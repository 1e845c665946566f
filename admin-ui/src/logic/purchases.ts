import type { PurchaseRow } from "../api/models";

/** Stripe's words for where a payment stands, in ours. */
export const PURCHASE_STATUSES: Record<PurchaseRow["status"], string> = {
  succeeded: "Succeeded",
  processing: "Processing",
  pending: "Pending",
  requires_payment_method: "Not paid",
  requires_confirmation: "Not confirmed",
  requires_action: "Buyer must act",
  requires_capture: "Not captured",
  canceled: "Canceled",
  failed: "Failed",
  unknown: "Unknown",
};
