import { Anchor, Button, Code, Container, Stack, Text, Title } from "@mantine/core";
import { Link, useRouteError } from "react-router";

/** What stands where a page should be: there is none at this address, or it broke. */
export function RouteError({ missing = false }: { missing?: boolean }) {
  const error = useRouteError();
  if (missing) {
    return (
      <Message title="There is no page here">
        The address may be old or mistyped. <Anchor component={Link} to="/users" underline="always">Go to the users</Anchor>.
      </Message>
    );
  }
  return (
    <Message title="This page broke">
      Nothing was changed by it. If the service was just updated, loading the page again brings the new version.
      {error instanceof Error && <Code block>{error.message}</Code>}
      <Button mt="md" display="block" onClick={() => window.location.reload()}>
        Load again
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
