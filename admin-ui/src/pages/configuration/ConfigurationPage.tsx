import { Box, Tabs } from "@mantine/core";

import { useFilters } from "../../components/Filters";
import { Page } from "../../components/Page";
import { keysOf, oneOf } from "../../logic/filters";
import { DefaultsTab } from "./DefaultsTab";
import { PacksTab } from "./PacksTab";
import { ProductsTab } from "./ProductsTab";
import { ProvidersTab } from "./ProvidersTab";
import { TABS } from "./labels";

const CONTENT = { packs: PacksTab, products: ProductsTab, defaults: DefaultsTab, providers: ProvidersTab };

export function ConfigurationPage() {
  const { get, set } = useFilters();
  const shown = oneOf(get("section"), keysOf(TABS)) ?? "packs";
  const Content = CONTENT[shown];
  return (
    <Page title="Configuration" subtitle="Changes take effect in all processes within a second. Each change is kept as a version.">
      <Tabs value={shown} onChange={(value) => set("section", value)} keepMounted={false}>
        <Tabs.List aria-label="Configuration sections">
          {keysOf(TABS).map((name) => (
            <Tabs.Tab key={name} value={name}>
              {TABS[name]}
            </Tabs.Tab>
          ))}
        </Tabs.List>
        {keysOf(TABS).map((name) => (
          <Tabs.Panel key={name} value={name}>
            <Box pt="md">{name === shown && <Content />}</Box>
          </Tabs.Panel>
        ))}
      </Tabs>
    </Page>
  );
}
