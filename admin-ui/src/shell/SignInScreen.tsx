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
          <Notice search={search} />
          <Text>Back office for operators of the service. Sign in with your work account.</Text>
          <Button
            component="a"
            href={signInPath(pathname, search)}
            size="md"
            leftSection={<IconLogin2 size={18} aria-hidden />}
          >
            Sign in
          </Button>
          <Text size="sm" c="dimmed">
            No access? Ask an admin to invite you on the Admins page.
          </Text>
        </Stack>
      </Paper>
    </Center>
  );
}

/** Why the visitor is not signed in: an ended session or a refused sign-in. */
function Notice({ search }: { search: string }) {
  const refusal = refusalOf(search);
  if (hasEnded()) {
    return (
      <Alert color="orange" variant="outline" role="alert" title="Your session has ended">
        It expired, or an admin ended it or disabled your access. Your last action was not carried out. Sign in again.
      </Alert>
    );
  }
  if (refusal === null) return null;
  return (
    <Alert color="red" variant="outline" role="alert" title="Sign-in failed">
      <Text size="sm">{refusal.message}</Text>
      {refusal.requestId !== null && (
        <Text size="xs" c="dimmed" mt="xs">
          Request id <Code>{refusal.requestId}</Code>
        </Text>
      )}
    </Alert>
  );
}
