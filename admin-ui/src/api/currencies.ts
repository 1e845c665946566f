import { useQuery } from "@tanstack/react-query";

import { setCurrencies } from "../logic/currencies";
import { api, bodyOf } from "./client";

/** Loads the digits of all currencies; no amount can be shown before. */
export function useCurrencies() {
  return useQuery({
    queryKey: ["currencies"],
    queryFn: async ({ signal }) => {
      const { currencies } = await bodyOf(api.GET("/v1/billing/currencies", { signal }));
      setCurrencies(currencies);
      return currencies;
    },
    staleTime: Infinity,
  });
}
