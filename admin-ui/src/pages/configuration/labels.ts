import type { ConfigSection } from "../../api/models";

export const TABS = {
  packs: "Price packs",
  products: "Products",
  defaults: "Defaults",
  plans: "Plans",
  grants: "One-time grants",
  refills: "Refills",
  rates: "Display rates",
  burnRate: "Burn rate",
  providers: "Payment providers",
} as const;

export const SECTIONS: Record<ConfigSection, string> = {
  packs: "Price packs",
  products: "Products",
  defaults: "Defaults",
  plans: "Plans",
  one_time_grants: "One-time grants",
  refills: "Refills",
  display_rates: "Display rates",
  burn_rate: "Burn rate",
  provider_live: "Stripe, live",
  provider_test: "Stripe, test",
};
