import { Page } from "../../components/Page";
import { UrlTabs } from "../../components/UrlTabs";
import { DefaultsTab } from "./DefaultsTab";
import { DisplayRatesTab } from "./DisplayRatesTab";
import { PacksTab } from "./PacksTab";
import { ProductsTab } from "./ProductsTab";
import { ProvidersTab } from "./ProvidersTab";
import { TABS } from "./labels";

const CONTENT = { packs: <PacksTab />, products: <ProductsTab />, defaults: <DefaultsTab />, rates: <DisplayRatesTab />, providers: <ProvidersTab /> };

export function ConfigurationPage() {
  return (
    <Page title="Configuration" subtitle="Changes take effect in all processes within a second. Each change is kept as a version.">
      <UrlTabs param="section" label="Configuration sections" tabs={TABS} first="packs" content={CONTENT} />
    </Page>
  );
}
