import { Paper, Skeleton, Text } from "@mantine/core";
import type { ReactNode } from "react";

import { formatGrowth } from "../logic/decimals";

interface Props {
  name: string;
  value: string;
  /** All digits, for who points at it. */
  exact?: string;
  /** Now and before, to tell the change. */
  growth?: [now: string | number, before: string | number] | undefined;
  hint?: ReactNode;
}

/** One number that people look for first, and how it moved. */
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
  if (growth === null) return "as before";
  if (growth === "new") return "none before";
  return (
    <>
      <Text span inherit fw={600} c="var(--mantine-color-text)">
        {growth}
      </Text>{" "}
      against before
    </>
  );
}

export function FigureSkeletons({ count }: { count: number }) {
  return Array.from({ length: count }, (_, index) => <Skeleton key={index} height={92} />);
}
