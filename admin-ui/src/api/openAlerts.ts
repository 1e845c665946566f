import { useQuery } from "@tanstack/react-query";

import { api, bodyOf } from "./client";

const REFETCH_MS = 60_000;

/** Return the number of open alerts, refreshed every minute. */
export function useOpenAlerts() {
  return useQuery({
    queryKey: ["alerts", "open"],
    queryFn: ({ signal }) => bodyOf(api.GET("/admin/alerts", { params: { query: { status: "open", limit: 1 } }, signal })),
    select: ({ open_total }) => open_total,
    refetchInterval: REFETCH_MS,
  });
}
