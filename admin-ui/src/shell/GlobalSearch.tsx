import { useDebouncedValue, useHotkeys } from "@mantine/hooks";
import { Spotlight, spotlight } from "@mantine/spotlight";
import { useQuery } from "@tanstack/react-query";
import { IconSearch } from "@tabler/icons-react";
import { useEffect, useRef, useState } from "react";
import { useNavigate } from "react-router";

import { api, bodyOf } from "../api/client";
import { ApiError } from "../api/errors";
import { isUuid, trimmed } from "../logic/filters";
import { hitsOf, type Found, type Hit } from "../logic/hits";

const USER_LIMIT = 50;

/**
 * Global search, opened by "/" or Ctrl-K: users, purchases, keys, alerts and pages. Enter opens the first hit, and waits
 * for it while the search is running.
 */
export function GlobalSearch() {
  const [query, setQuery] = useState("");
  const typed = trimmed(query);
  const [search] = useDebouncedValue(typed, 200);
  // The query for which Enter was pressed before its results arrived.
  const awaited = useRef<string | null>(null);
  const navigate = useNavigate();
  // Also works while a field has the focus, where "/" is typed as a character.
  useHotkeys([["mod+K", spotlight.open]], []);
  const { data, isFetching, error } = useQuery({
    queryKey: ["search", search],
    queryFn: ({ signal }) => find(search, signal),
    enabled: search.length >= LEAST,
  });
  const pending = typed.length >= LEAST && (search !== typed || isFetching);
  const pages = PAGES.filter(({ label }) => label.toLowerCase().includes(typed.toLowerCase()));
  const groups = hitsOf(typed, typed.length >= LEAST && search === typed ? data : undefined, pages.map(pageHit));
  const first = groups[0]?.hits[0]?.path;
  useEffect(() => {
    // The selected hit may have disappeared: select the first one, which Enter opens.
    if (data !== undefined && selected() === null) document.querySelector("[data-action]")?.setAttribute("data-selected", "true");
  }, [data]);
  useEffect(() => {
    if (pending || awaited.current === null) return;
    const target = awaited.current === typed ? first : undefined;
    awaited.current = null;
    if (target === undefined) return;
    spotlight.close();
    void navigate(target);
  }, [pending, typed, first, navigate]);
  return (
    <Spotlight
      actions={groups.map(({ group, hits }) => ({
        group,
        actions: hits.map(({ path, ...hit }) => ({ ...hit, onClick: () => void navigate(path) })),
      }))}
      query={query}
      onQueryChange={(next) => {
        awaited.current = null;
        setQuery(next);
      }}
      filter={(_query, actions) => actions}
      shortcut="/"
      nothingFound={error ? error.message : pending ? "Searching…" : NOTHING}
      highlightQuery
      scrollable
      attributes={{ content: { "aria-label": "Search" } }}
      maxHeight={420}
      searchProps={{
        leftSection: <IconSearch size={18} aria-hidden />,
        placeholder: "E-mail, name, external id, account id, payment id, key…",
        "aria-label": "Search users, purchases, keys and pages",
        onKeyDown: ({ key, currentTarget }) => {
          // The field's own text: a fast Enter arrives before the text before it is rendered.
          const text = trimmed(currentTarget.value);
          if (key !== "Enter" || text.length < LEAST || (text === search && !isFetching)) return;
          // The hits belong to the previous query: do not open them.
          selected()?.removeAttribute("data-selected");
          awaited.current = text;
        },
      }}
    />
  );
}

const LEAST = 2;

function selected(): Element | null {
  return document.querySelector("[data-action][data-selected]");
}
const NOTHING = "No results. Search by the beginning of a name, e-mail address or external id, or by account id, payment id or key name.";

const PAGES = [
  { label: "Overview", path: "/" },
  { label: "Users", path: "/users" },
  { label: "Similar identities", path: "/users/spellings" },
  { label: "Users in debt", path: "/users?balance=debt" },
  { label: "Suspended users", path: "/users?status=suspended" },
  { label: "Purchases", path: "/purchases" },
  { label: "Paid but not credited", path: "/purchases?view=paid_not_credited" },
  { label: "Alerts", path: "/alerts" },
  { label: "Open alerts: unusual activity", path: "/alerts?status=open" },
  { label: "Approvals: requests above a limit", path: "/approvals" },
  { label: "Subscriptions of all users", path: "/subscriptions" },
  { label: "Subscriptions: failed payments", path: "/subscriptions?tab=failed" },
  { label: "Subscriptions: plans and their subscribers", path: "/subscriptions?tab=plans" },
  { label: "Subscriptions: recurring revenue, churn, conversion", path: "/subscriptions?tab=figures" },
  { label: "Refused requests: by request id", path: "/refusals" },
  { label: "Double charges: probable repeats", path: "/double-charges" },
  { label: "API keys", path: "/api-keys" },
  { label: "Analytics", path: "/analytics" },
  { label: "Usage events and costs", path: "/usage" },
  { label: "Price books", path: "/price-books" },
  { label: "Unknown models", path: "/price-books?tab=unknown" },
  { label: "Price calculator", path: "/price-books?tab=calculator" },
  { label: "Margins", path: "/margins" },
  { label: "Configuration: price packs", path: "/configuration" },
  { label: "Configuration: products", path: "/configuration?section=products" },
  { label: "Configuration: defaults", path: "/configuration?section=defaults" },
  { label: "Configuration: payment providers, Stripe keys", path: "/configuration?section=providers" },
  { label: "Audit log", path: "/audit" },
  { label: "Admins", path: "/admins" },
  { label: "System", path: "/system" },
];

async function find(search: string, signal: AbortSignal): Promise<Found> {
  const [{ users }, purchases, { api_keys: keys }, alerts] = await Promise.all([
    bodyOf(api.GET("/admin/users", { params: { query: { search, limit: USER_LIMIT } }, signal })),
    findPurchases(search, signal),
    bodyOf(api.GET("/admin/api-keys", { signal })),
    isUuid(search) ? listOfFound(bodyOf(api.GET("/admin/alerts/{alert_id}", { params: { path: { alert_id: search } }, signal }))) : [],
  ]);
  return { users, purchases, keys, alerts };
}

async function findPurchases(search: string, signal: AbortSignal): Promise<Found["purchases"]> {
  if (isUuid(search)) {
    return listOfFound(bodyOf(api.GET("/admin/purchases/{purchase_id}", { params: { path: { purchase_id: search } }, signal })));
  }
  if (!search.startsWith("pi_")) return [];
  return (await bodyOf(api.GET("/admin/purchases", { params: { query: { payment_id: search } }, signal }))).purchases;
}

/** Return the found item as a list, or an empty list when it does not exist. */
async function listOfFound<T>(call: Promise<T>): Promise<T[]> {
  try {
    return [await call];
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return [];
    throw error;
  }
}

function pageHit({ label, path }: { label: string; path: string }): Hit {
  return { id: path, label, path };
}
