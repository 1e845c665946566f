import { Skeleton, Stack } from "@mantine/core";

export function ListSkeleton({ label, lines = 6 }: { label: string; lines?: number }) {
  return (
    <Stack gap="sm" aria-busy role="status" aria-label={label}>
      {Array.from({ length: lines }, (_, index) => (
        <Skeleton key={index} height={38} />
      ))}
    </Stack>
  );
}
