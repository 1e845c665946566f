import { Box, Tabs } from "@mantine/core";
import type { ReactNode } from "react";

import { keysOf, oneOf } from "../logic/filters";
import { useFilters } from "./Filters";

interface Props<Name extends string> {
  /** The URL parameter that names the shown tab. */
  param: string;
  label: string;
  tabs: Record<Name, string>;
  /** The tab that is shown while the URL names none. */
  first: Name;
  content: Record<Name, ReactNode>;
}

/** Tabs whose choice is in the URL. Only the shown tab is mounted. */
export function UrlTabs<Name extends string>({ param, label, tabs, first, content }: Props<Name>) {
  const { get, set } = useFilters();
  const names = keysOf(tabs);
  const shown = oneOf(get(param), names) ?? first;
  return (
    <Tabs value={shown} onChange={(value) => set(param, value)} keepMounted={false}>
      <Tabs.List aria-label={label}>
        {names.map((name) => (
          <Tabs.Tab key={name} value={name}>
            {tabs[name]}
          </Tabs.Tab>
        ))}
      </Tabs.List>
      {names.map((name) => (
        <Tabs.Panel key={name} value={name}>
          <Box pt="md">{name === shown && content[name]}</Box>
        </Tabs.Panel>
      ))}
    </Tabs>
  );
}
