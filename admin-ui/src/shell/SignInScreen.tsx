import { Alert, Button, Center, Code, Group, Paper, Stack, Text, Title } from "@mantine/core";
import { IconLogin2 } from "@tabler/icons-react";
import { useEffect } from "react";

import { hasEnded } from "../api/client";
import { refusalOf, signInPath } from "./signInMessages";
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
          <Why search={search} />
          <Text>The back office is for the people who run the service. Sign in with your work account.</Text>
          <Button
            component="a"
            href={signInPath(pathname, search)}
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

/** Why somebody who thought to be in is not. */
function Why({ search }: { search: string }) {
  const refusal = refusalOf(search);
  if (hasEnded()) {
    return (
      <Alert color="orange" variant="outline" role="alert" title="Your session has ended">
        It ran out, or an admin ended it or locked you out. What you asked for last was not done.
      </Alert>
    );
  }
  if (refusal === null) return null;
  return (
    <Alert color="red" variant="outline" role="alert" title="You are not signed in">
      <Text size="sm">{refusal.why}</Text>
      {refusal.requestId !== null && (
        <Text size="xs" c="dimmed" mt="xs">
          Request <Code>{refusal.requestId}</Code>
        </Text>
      )}
    </Alert>
  );
}
