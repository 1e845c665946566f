import type { ConfigSection } from "../../api/models";

export const TABS = {
  packs: "Price packs",
  products: "Products",
  defaults: "Defaults",
  rates: "Display rates",
  providers: "Payment providers",
} as const;

export const SECTIONS: Record<ConfigSection, string> = {
  packs: "Price packs",
  products: "Products",
  defaults: "Defaults",
  display_rates: "Display rates",
  provider_live: "Stripe, live",
  provider_test: "Stripe, test",
};
