import type { Person, UserRow } from "../api/models";
import { humanize, shortId } from "./format";

/** Return a user's name: the e-mail address, else the display name, else the external id. */
export function nameOf(user: Pick<UserRow, "account_id" | "customer_email" | "display_name" | "external_id">): string {
  return user.customer_email ?? user.display_name ?? user.external_id ?? `Account ${shortId(user.account_id)}`;
}

/** Return the name of a person in a list. */
export function personOf(person: Person, accountId: string): string {
  if (person.erased) return `Erased person (${shortId(accountId)})`;
  return nameOf({ ...person, account_id: accountId });
}

const BRANDS: Record<string, string> = { amex: "American Express", jcb: "JCB", unionpay: "UnionPay", diners: "Diners Club", mastercard: "Mastercard" };

/** Return the payment method, such as "Visa ··4242"; null: unknown. */
export function cardOf({ card_brand: brand, card_last4: last4 }: { card_brand: string | null; card_last4: string | null }): string | null {
  if (brand === null) return null;
  const name = BRANDS[brand] ?? humanize(brand);
  return last4 === null ? name : `${name} ··${last4}`;
}
