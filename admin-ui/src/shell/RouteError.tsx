import { Anchor, Button, Code, Container, Stack, Text, Title } from "@mantine/core";
import { Link, useRouteError } from "react-router";

/** Shown instead of a page that does not exist or failed to render. */
export function RouteError({ missing = false }: { missing?: boolean }) {
  const error = useRouteError();
  if (missing) {
    return (
      <Message title="Page not found">
        The address may be outdated or mistyped. <Anchor component={Link} to="/users" underline="always">Go to Users</Anchor>.
      </Message>
    );
  }
  return (
    <Message title="This page failed to load">
      No data was changed. If the service was just updated, reload the page to get the new version.
      {error instanceof Error && <Code block>{error.message}</Code>}
      <Button mt="md" display="block" onClick={() => window.location.reload()}>
        Reload page
      </Button>
    </Message>
  );
}

function Message({ title, children }: { title: string; children: React.ReactNode }) {
  return (
    <Container size="sm" py="xl">
      <Stack gap="xs">
        <Title order={1} size="h3">
          {title}
        </Title>
        <Text component="div">{children}</Text>
      </Stack>
    </Container>
  );
}
