import type { UserRow } from "../api/models";
import { shortId } from "./format";

/** What people call a user: the best that is known. */
export function nameOf(user: Pick<UserRow, "account_id" | "customer_email" | "display_name" | "external_id">): string {
  return user.customer_email ?? user.display_name ?? user.external_id ?? `Account ${shortId(user.account_id)}`;
}
