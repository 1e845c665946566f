import { ActionIcon, AppShell, Burger, Button, Group, Kbd, Text, Tooltip, UnstyledButton } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { spotlight } from "@mantine/spotlight";
import { IconSearch } from "@tabler/icons-react";
import { useEffect, useRef } from "react";
import { Link, Outlet, useLocation, useNavigation } from "react-router";

import classes from "./AppFrame.module.css";
import { GlobalSearch } from "./GlobalSearch";
import { Logo } from "./Logo";
import { Navigation } from "./Navigation";
import { SchemeMenu } from "./SchemeMenu";
import { UserMenu } from "./UserMenu";

export function AppFrame() {
  const [opened, { toggle, close }] = useDisclosure(false);
  const { pathname } = useLocation();
  const loading = useNavigation().state === "loading";
  const main = useRef<HTMLDivElement>(null);
  const first = useRef(true);
  useEffect(() => {
    // Move the focus to the new page, for screen readers and keyboard users.
    if (!first.current) main.current?.focus();
    first.current = false;
  }, [pathname]);
  return (
    <AppShell
      header={{ height: 56 }}
      navbar={{ width: 220, breakpoint: "sm", collapsed: { mobile: !opened } }}
      padding={{ base: "md", lg: "xl" }}
    >
      <a href="#main" className="skip-link">
        Skip to content
      </a>
      <GlobalSearch />
      <AppShell.Header>
        <Group h="100%" px="md" justify="space-between" wrap="nowrap" gap="sm">
          <Group gap="sm" wrap="nowrap">
            <Burger
              opened={opened}
              onClick={toggle}
              hiddenFrom="sm"
              size="sm"
              aria-label={opened ? "Close menu" : "Open menu"}
              aria-expanded={opened}
            />
            <UnstyledButton component={Link} to="/" aria-label="CIRIS Billing, home">
              <Group gap="xs" wrap="nowrap">
                <Logo />
                <Text fw={650} visibleFrom="xs">
                  CIRIS Billing
                </Text>
              </Group>
            </UnstyledButton>
          </Group>
          <Group gap="xs" wrap="nowrap">
            <Button
              variant="default"
              onClick={spotlight.open}
              visibleFrom="sm"
              className={classes.search}
              styles={{ label: { flex: 1, textAlign: "left" } }}
              leftSection={<IconSearch size={16} aria-hidden />}
              rightSection={<Kbd size="xs">/</Kbd>}
              aria-keyshortcuts="/ Control+K"
            >
              Search
            </Button>
            <Tooltip label="Search">
              <ActionIcon variant="default" size={36} onClick={spotlight.open} hiddenFrom="sm" aria-label="Search">
                <IconSearch size={18} aria-hidden />
              </ActionIcon>
            </Tooltip>
            <SchemeMenu />
            <UserMenu />
          </Group>
        </Group>
      </AppShell.Header>
      <AppShell.Navbar p="xs">
        <Navigation onNavigate={close} />
      </AppShell.Navbar>
      <AppShell.Main id="main" ref={main} tabIndex={-1} className={classes.main} aria-busy={loading}>
        <Outlet />
      </AppShell.Main>
    </AppShell>
  );
}
