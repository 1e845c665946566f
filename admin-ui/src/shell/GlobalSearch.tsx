import { useDebouncedValue, useHotkeys } from "@mantine/hooks";
import { Spotlight, spotlight, type SpotlightActionData, type SpotlightActionGroupData } from "@mantine/spotlight";
import { useQuery } from "@tanstack/react-query";
import { IconSearch } from "@tabler/icons-react";
import { useState } from "react";
import { useNavigate } from "react-router";

import { api, bodyOf } from "../api/client";
import type { PurchaseRow, UserRow } from "../api/models";
import { pathWith } from "../logic/filters";
import { formatCredits, formatMoney, shortId } from "../logic/format";
import { nameOf } from "../logic/names";

const SHOWN = 7;

/** Opened by "/" or Ctrl-K from anywhere: users as the list finds them, a purchase by its payment's id, pages. */
export function GlobalSearch() {
  const [query, setQuery] = useState("");
  const [search] = useDebouncedValue(query.trim(), 200);
  const navigate = useNavigate();
  const go = (path: string) => () => void navigate(path);
  // While a field has the focus too, where "/" is a letter.
  useHotkeys([["mod+K", spotlight.open]], []);
  const { data, isFetching, error } = useQuery({
    queryKey: ["search", search],
    queryFn: ({ signal }) => find(search, signal),
    enabled: search.length >= 2,
  });
  const found = search.length >= 2 ? data : undefined;
  const groups: SpotlightActionGroupData[] = [];
  if (found !== undefined && found.users.length > 0) {
    const users = found.users.map((user) => userAction(user, go));
    const all = { id: "all", label: `All users that begin with “${search}”`, onClick: go(pathWith("/users", { search })) };
    groups.push({ group: "Users", actions: [...users, all] });
  }
  if (found !== undefined && found.purchases.length > 0) {
    groups.push({ group: "Purchases", actions: found.purchases.map((purchase) => purchaseAction(purchase, go)) });
  }
  const wanted = query.trim().toLowerCase();
  const pages = PAGES.filter(({ label }) => label.toLowerCase().includes(wanted));
  if (pages.length > 0) {
    groups.push({ group: "Pages", actions: pages.map(({ label, path }) => ({ id: path, label, onClick: go(path) })) });
  }
  return (
    <Spotlight
      actions={groups}
      query={query}
      onQueryChange={setQuery}
      filter={(_query, actions) => actions}
      shortcut="/"
      nothingFound={error ? error.message : isFetching || search !== query.trim() ? "Searching…" : NOTHING}
      highlightQuery
      scrollable
      attributes={{ content: { "aria-label": "Search" } }}
      maxHeight={420}
      searchProps={{
        leftSection: <IconSearch size={18} aria-hidden />,
        placeholder: "E-mail, name, external id, account id, payment id…",
        "aria-label": "Search users, purchases and pages",
      }}
    />
  );
}

const NOTHING = "Nothing begins like this. Try an e-mail address, a name, an external id, an account id or a payment id.";

const PAGES = [
  { label: "Overview", path: "/" },
  { label: "Users", path: "/users" },
  { label: "Users in debt", path: "/users?balance=debt" },
  { label: "Suspended users", path: "/users?status=suspended" },
  { label: "Purchases", path: "/purchases" },
  { label: "Paid but not credited", path: "/purchases?view=paid_not_credited" },
  { label: "Alerts", path: "/alerts" },
  { label: "Open alerts: unusual activity", path: "/alerts?status=open" },
  { label: "API keys", path: "/api-keys" },
  { label: "Analytics", path: "/analytics" },
  { label: "Margins", path: "/margins" },
  { label: "Configuration: price packs", path: "/configuration" },
  { label: "Configuration: products", path: "/configuration?section=products" },
  { label: "Configuration: defaults", path: "/configuration?section=defaults" },
  { label: "Configuration: payment providers, Stripe keys", path: "/configuration?section=providers" },
  { label: "Audit log", path: "/audit" },
  { label: "Admins", path: "/admins" },
  { label: "System", path: "/system" },
];

async function find(search: string, signal: AbortSignal): Promise<{ users: UserRow[]; purchases: PurchaseRow[] }> {
  const [{ users }, { purchases }] = await Promise.all([
    bodyOf(api.GET("/admin/users", { params: { query: { search, limit: SHOWN } }, signal })),
    search.startsWith("pi_")
      ? bodyOf(api.GET("/admin/purchases", { params: { query: { payment_id: search, limit: SHOWN } }, signal }))
      : { purchases: [] },
  ]);
  return { users, purchases };
}

function userAction(user: UserRow, go: (path: string) => () => void): SpotlightActionData {
  const facts = [user.external_id, user.environment, user.status, formatCredits(user.paid)];
  return {
    id: user.account_id,
    label: nameOf(user),
    description: facts.filter((fact) => fact !== null && fact !== nameOf(user)).join(" · "),
    onClick: go(`/users/${user.account_id}`),
  };
}

function purchaseAction(purchase: PurchaseRow, go: (path: string) => () => void): SpotlightActionData {
  return {
    id: purchase.purchase_id,
    label: purchase.payment_id ?? shortId(purchase.purchase_id),
    description: `${formatMoney(purchase.amount_minor, purchase.currency)} · ${purchase.status}`,
    onClick: go(`/purchases/${purchase.purchase_id}`),
  };
}
