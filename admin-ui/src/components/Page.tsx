import { Box, Group, Stack, Text, Title } from "@mantine/core";
import { useEffect, type ReactNode } from "react";

import { Breakable } from "./Breakable";

interface Props {
  title: string;
  /** Status tags beside the title. */
  marks?: ReactNode;
  subtitle?: ReactNode;
  actions?: ReactNode;
  children: ReactNode;
}

export function Page({ title, marks, subtitle, actions, children }: Props) {
  useEffect(() => {
    document.title = `${title} · CIRIS Billing`;
  }, [title]);
  return (
    <Stack gap="lg">
      <Group justify="space-between" align="flex-start" gap="sm">
        <Box style={{ minWidth: 0 }}>
          <Group gap="xs">
            <Title order={1} fz={{ base: "h3", sm: "h2" }} style={{ overflowWrap: "anywhere" }}>
              <Breakable text={title} />
            </Title>
            {marks}
          </Group>
          {subtitle !== undefined && (
            <Text c="dimmed" size="sm" component="div" mt={4}>
              {subtitle}
            </Text>
          )}
        </Box>
        {actions !== undefined && <Group gap="xs">{actions}</Group>}
      </Group>
      {children}
    </Stack>
  );
}
