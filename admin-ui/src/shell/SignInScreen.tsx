import { Button, Center, Group, Paper, Stack, Text, Title } from "@mantine/core";
import { IconLogin2 } from "@tabler/icons-react";
import { useEffect } from "react";

import { pathWith } from "../logic/filters";
import { Logo } from "./Logo";

export function SignInScreen() {
  const { pathname, search } = window.location;
  useEffect(() => {
    document.title = "Sign in · CIRIS Billing";
  }, []);
  return (
    <Center mih="100vh" p="md" component="main">
      <Paper withBorder shadow="sm" p="xl" w="100%" maw={400}>
        <Stack gap="lg">
          <Group gap="sm">
            <Logo size={32} />
            <Title order={1} size="h3">
              CIRIS Billing
            </Title>
          </Group>
          <Text>The back office is for the people who run the service. Sign in with your work account.</Text>
          <Button
            component="a"
            href={pathWith("/admin/oauth/login", { return_to: pathname + search })}
            size="md"
            leftSection={<IconLogin2 size={18} aria-hidden />}
          >
            Sign in
          </Button>
          <Text size="sm" c="dimmed">
            Refused? Another admin can invite you under Admins.
          </Text>
        </Stack>
      </Paper>
    </Center>
  );
}
