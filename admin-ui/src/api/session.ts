import { useQuery, useQueryClient } from "@tanstack/react-query";
import { createContext, useContext } from "react";

import { atLeast } from "../logic/roles";
import { api, bodyOf, setCsrfToken } from "./client";
import { ApiError } from "./errors";
import type { Role, WhoAmI } from "./models";

export const SESSION = ["session"];

/** Return the signed-in admin, or null. */
export function useWhoAmI() {
  return useQuery({
    queryKey: SESSION,
    queryFn: async (): Promise<WhoAmI | null> => {
      try {
        const me = await bodyOf(api.GET("/admin/oauth/user"));
        setCsrfToken(me.csrf_token);
        return me;
      } catch (error) {
        if (error instanceof ApiError && error.status === 401) return null;
        throw error;
      }
    },
    staleTime: 60_000,
  });
}

export function useSignOut() {
  const queries = useQueryClient();
  return async () => {
    await api.POST("/admin/oauth/logout");
    setCsrfToken(null);
    queries.setQueryData(SESSION, null);
    // The next admin who signs in in this window must not see cached data.
    queries.removeQueries({ predicate: ({ queryKey }) => queryKey[0] !== SESSION[0] });
  };
}

export const MeContext = createContext<WhoAmI | null>(null);

/** Return the signed-in admin. Only available inside SessionGate. */
export function useMe(): WhoAmI {
  const me = useContext(MeContext);
  if (me === null) throw new Error("useMe outside of the session gate");
  return me;
}

export function useHasRole(role: Role): boolean {
  return atLeast(useMe().role, role);
}
