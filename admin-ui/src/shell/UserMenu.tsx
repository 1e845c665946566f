import { Avatar, Box, Group, Menu, Text, UnstyledButton, VisuallyHidden } from "@mantine/core";
import { notifications } from "@mantine/notifications";
import { useMutation } from "@tanstack/react-query";
import { IconDevices, IconLogout } from "@tabler/icons-react";
import { Link } from "react-router";

import { useMe, useSignOut } from "../api/session";
import { pathWith } from "../logic/filters";
import { humanize } from "../logic/format";

export function UserMenu() {
  const me = useMe();
  const signOut = useMutation({
    mutationFn: useSignOut(),
    onError: (error) => notifications.show({ color: "red", title: "Sign-out failed", message: error.message }),
  });
  return (
    <Menu position="bottom-end" width={240}>
      <Menu.Target>
        <UnstyledButton>
          <VisuallyHidden>{`Signed in as ${me.email}, role ${me.role}`}</VisuallyHidden>
          <Group gap="xs" wrap="nowrap" aria-hidden>
            <Avatar color="indigo" variant="filled" size={36}>
              {me.email.charAt(0).toUpperCase()}
            </Avatar>
            <Box visibleFrom="md" maw={180}>
              <Text size="xs" fw={600} truncate>
                {me.email}
              </Text>
              <Text size="xs" c="dimmed">
                {humanize(me.role)}
              </Text>
            </Box>
          </Group>
        </UnstyledButton>
      </Menu.Target>
      <Menu.Dropdown>
        <Menu.Label>
          <Text component="span" size="sm" c="var(--mantine-color-text)" fw={600} display="block" truncate>
            {me.email}
          </Text>
          Role: {humanize(me.role)}
        </Menu.Label>
        <Menu.Divider />
        <Menu.Item
          component={Link}
          to={pathWith("/admins", { sessions: me.admin_id })}
          leftSection={<IconDevices size={16} aria-hidden />}
        >
          My sessions
        </Menu.Item>
        <Menu.Item
          onClick={() => signOut.mutate()}
          disabled={signOut.isPending}
          leftSection={<IconLogout size={16} aria-hidden />}
        >
          Sign out
        </Menu.Item>
      </Menu.Dropdown>
    </Menu>
  );
}
