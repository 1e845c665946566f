import { Page } from "../../components/Page";
import { UrlTabs } from "../../components/UrlTabs";
import { BurnRateTab } from "./BurnRateTab";
import { DefaultsTab } from "./DefaultsTab";
import { DisplayRatesTab } from "./DisplayRatesTab";
import { OneTimeGrantsTab } from "./OneTimeGrantsTab";
import { PacksTab } from "./PacksTab";
import { PlansTab } from "./PlansTab";
import { ProductsTab } from "./ProductsTab";
import { ProvidersTab } from "./ProvidersTab";
import { RefillsTab } from "./RefillsTab";
import { TABS } from "./labels";

const CONTENT = {
  packs: <PacksTab />,
  products: <ProductsTab />,
  defaults: <DefaultsTab />,
  plans: <PlansTab />,
  grants: <OneTimeGrantsTab />,
  refills: <RefillsTab />,
  rates: <DisplayRatesTab />,
  burnRate: <BurnRateTab />,
  providers: <ProvidersTab />,
};

export function ConfigurationPage() {
  return (
    <Page title="Configuration" subtitle="Changes take effect in all processes within a second. Each change is kept as a version.">
      <UrlTabs param="section" label="Configuration sections" tabs={TABS} first="packs" content={CONTENT} />
    </Page>
  );
}
