import { Group, Paper, Title } from "@mantine/core";
import { useId, type ReactNode } from "react";

export function Section({ title, aside, children }: { title: string; aside?: ReactNode; children: ReactNode }) {
  const id = useId();
  return (
    <Paper component="section" withBorder p={{ base: "sm", sm: "md" }} aria-labelledby={id}>
      <Group justify="space-between" mb="sm" gap="xs">
        <Title order={2} size="h5" id={id}>
          {title}
        </Title>
        {aside !== undefined && <Group gap="xs">{aside}</Group>}
      </Group>
      {children}
    </Paper>
  );
}
