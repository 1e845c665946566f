import type { UsageEventsQuery } from "../../api/models";
import { useFilters } from "../../components/Filters";
import { isUuid, keysOf, oneOf } from "../../logic/filters";
import { useRange } from "../../reports/useRange";
import { STATUSES } from "./labels";

type Filters = Omit<UsageEventsQuery, "cursor" | "limit">;

/** The filters in the URL, as the API's query parameters. A user that is no account id matches nothing. */
export function useUsageFilters(): Filters {
  const { get } = useFilters();
  const { query } = useRange();
  const account = get("account_id");
  return {
    ...query,
    account_id: account !== null && isUuid(account) ? account : null,
    meter: get("meter"),
    provider: get("provider"),
    model: get("model"),
    agent: get("agent"),
    tool: get("tool"),
    key: get("key"),
    run: get("run"),
    source: get("source"),
    plan: get("plan"),
    status: oneOf(get("status"), keysOf(STATUSES)),
  };
}
