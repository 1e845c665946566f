import { SimpleGrid, Skeleton, Stack } from "@mantine/core";
import type { ReactNode } from "react";

/** The loading state of a page with a title and two sections side by side. */
export function DetailSkeleton({ label, children }: { label: string; children?: ReactNode }) {
  return (
    <Stack gap="lg" aria-busy aria-label={label}>
      <Skeleton height={34} width="50%" />
      <SimpleGrid cols={{ base: 1, lg: 2 }}>
        <Skeleton height={220} />
        <Skeleton height={220} />
      </SimpleGrid>
      {children}
    </Stack>
  );
}
