/** Results of the global search, in display order; Enter opens the first. */
import type { Alert, ApiKey, Purchase, PurchaseRow, UserRow } from "../api/models";
import { formatCredits, formatMoney, shortId } from "./format";
import { pathWith } from "./filters";
import { nameOf } from "./names";

export interface Found {
  users: UserRow[];
  purchases: (PurchaseRow | Purchase)[];
  keys: ApiKey[];
  alerts: Alert[];
}

export interface Hit {
  id: string;
  label: string;
  description?: string;
  path: string;
}

const SHOWN = 7;

/** Return the non-empty groups of hits. `pages` comes last, because page names are common words. */
export function hitsOf(search: string, found: Found | undefined, pages: Hit[]): { group: string; hits: Hit[] }[] {
  const users = exactFirst(search, found?.users ?? []).slice(0, SHOWN).map(userHit);
  const all = { id: "all", label: `All users that match “${search}”`, path: pathWith("/users", { search }) };
  const groups = [
    { group: "Users", hits: users.length === 0 ? [] : [...users, all] },
    { group: "Purchases", hits: (found?.purchases ?? []).map(purchaseHit) },
    { group: "API keys", hits: keysThatMatch(search, found?.keys ?? []).slice(0, SHOWN).map(keyHit) },
    { group: "Alerts", hits: (found?.alerts ?? []).map(alertHit) },
    { group: "Pages", hits: pages },
  ];
  return groups.filter(({ hits }) => hits.length > 0);
}

/** Sort exact matches before prefix matches. */
function exactFirst(search: string, users: UserRow[]): UserRow[] {
  const folded = fold(search);
  const isExact = ({ account_id, external_id, customer_email, display_name }: UserRow) =>
    [account_id, external_id, customer_email, display_name].some((name) => name !== null && fold(name) === folded);
  return users.toSorted((one, other) => Number(isExact(other)) - Number(isExact(one)));
}

export function fold(text: string): string {
  return text.normalize("NFKC").toLowerCase();
}

/** Return the keys whose public id begins with the search, or whose name contains its words. */
export function keysThatMatch(search: string, keys: ApiKey[]): ApiKey[] {
  const parts = fold(search).split(/\s+/).filter((part) => part !== "");
  return keys.filter(({ key_id, name }) =>
    parts.every((part) => key_id.startsWith(part.replace(/^cbk_(live|test)_/, "")) || fold(name).includes(part)),
  );
}

function userHit(user: UserRow): Hit {
  const facts = [user.external_id, user.environment, user.status, formatCredits(user.paid)];
  const description = facts.filter((fact) => fact !== null && fact !== nameOf(user)).join(" · ");
  return { id: user.account_id, label: nameOf(user), description, path: `/users/${user.account_id}` };
}

function purchaseHit(purchase: PurchaseRow | Purchase): Hit {
  return {
    id: purchase.purchase_id,
    label: purchase.payment_id ?? `Purchase ${shortId(purchase.purchase_id)}`,
    description: `${formatMoney(purchase.amount_minor, purchase.currency)} · ${purchase.status}`,
    path: `/purchases/${purchase.purchase_id}`,
  };
}

function keyHit(key: ApiKey): Hit {
  return {
    id: key.key_id,
    label: key.name,
    description: `${key.key_id} · ${key.environment} · ${key.status}`,
    path: pathWith("/api-keys", { search: key.key_id }),
  };
}

function alertHit(alert: Alert): Hit {
  return { id: alert.alert_id, label: `Alert ${shortId(alert.alert_id)}`, description: alert.status, path: `/alerts/${alert.alert_id}` };
}
