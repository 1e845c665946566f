import { useQuery } from "@tanstack/react-query";

import { api, bodyOf } from "./client";

const ASK_AGAIN_MS = 60_000;

/** How many alerts wait for somebody. */
export function useOpenAlerts() {
  return useQuery({
    queryKey: ["alerts", "open"],
    queryFn: ({ signal }) => bodyOf(api.GET("/admin/alerts", { params: { query: { status: "open", limit: 1 } }, signal })),
    select: ({ open_total }) => open_total,
    refetchInterval: ASK_AGAIN_MS,
  });
}
