import { Paper, Skeleton, Text } from "@mantine/core";
import type { ReactNode } from "react";

import { formatGrowth } from "../logic/decimals";

interface Props {
  name: string;
  value: string;
  /** The exact value, shown on hover. */
  exact?: string;
  /** The current and the previous value, to show the change. */
  growth?: [now: string | number, before: string | number] | undefined;
  hint?: ReactNode;
}

/** A key figure with its change. */
export function Figure({ name, value, exact, growth, hint }: Props) {
  return (
    <Paper withBorder p="sm">
      <Text size="sm" c="dimmed">
        {name}
      </Text>
      <Text fz={{ base: "clamp(0.8rem, 4.1vw, 1rem)", xs: "lg", sm: "xl" }} fw={650} className="numeric" title={exact}>
        {value}
      </Text>
      <Text size="xs" c="dimmed" component="div">
        {growth !== undefined && <Growth now={growth[0]} before={growth[1]} />}
        {growth !== undefined && hint !== undefined && " · "}
        {hint}
      </Text>
    </Paper>
  );
}

function Growth({ now, before }: { now: string | number; before: string | number }) {
  const growth = formatGrowth(now, before);
  if (growth === null) return "unchanged";
  if (growth === "new") return "previously 0";
  return (
    <>
      <Text span inherit fw={600} c="var(--mantine-color-text)">
        {growth}
      </Text>{" "}
      vs. previous period
    </>
  );
}

export function FigureSkeletons({ count }: { count: number }) {
  return Array.from({ length: count }, (_, index) => <Skeleton key={index} height={92} />);
}
