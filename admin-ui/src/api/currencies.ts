import { useQuery } from "@tanstack/react-query";

import { setCurrencies } from "../logic/currencies";
import { api, bodyOf } from "./client";

/** Load the number of digits of each currency. Amounts cannot be formatted before. */
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
