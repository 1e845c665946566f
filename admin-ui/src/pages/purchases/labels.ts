import type { PurchaseRow, PurchasesQuery } from "../../api/models";
import { formatMoney } from "../../logic/format";

export type View = NonNullable<PurchasesQuery["view"]>;

export const VIEWS: Record<View, string> = {
  paid_not_credited: "Paid, not credited",
  refunded_but_credited: "Refunded, still credited",
  for_review: "For review",
};

export function refundable(purchase: PurchaseRow): number {
  return Math.max(0, (purchase.received_minor ?? 0) - purchase.refunded_minor);
}

export function priceOf(purchase: PurchaseRow): string {
  return formatMoney(purchase.amount_minor, purchase.currency);
}
