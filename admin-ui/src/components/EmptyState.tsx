import { Stack, Text, ThemeIcon } from "@mantine/core";
import { IconInbox } from "@tabler/icons-react";
import type { ReactNode } from "react";

interface Props {
  title: string;
  /** The next step. */
  children: ReactNode;
  icon?: ReactNode;
}

export function EmptyState({ title, children, icon }: Props) {
  return (
    <Stack align="center" gap={6} py="xl" px="md" ta="center">
      <ThemeIcon size={44} radius="xl" variant="default" mb={4}>
        {icon ?? <IconInbox size={22} stroke={1.5} aria-hidden />}
      </ThemeIcon>
      <Text fw={600}>{title}</Text>
      <Text c="dimmed" size="sm" maw={460} component="div">
        {children}
      </Text>
    </Stack>
  );
}
