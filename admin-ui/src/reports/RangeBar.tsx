import { Box, Group, SegmentedControl, Text, TextInput } from "@mantine/core";
import { useState } from "react";

import type { Environment } from "../api/models";
import { useFilters } from "../components/Filters";
import { keysOf } from "../logic/filters";
import { formatDay, PRESETS, rangeProblem, type Preset } from "../logic/ranges";
import { useRange } from "./useRange";

const ENVIRONMENTS: { value: Environment; label: string }[] = [
  { value: "live", label: "Live" },
  { value: "test", label: "Test" },
];
const CHOICES = [...keysOf(PRESETS).map((value) => ({ value, label: PRESETS[value] })), { value: "custom", label: "Custom" }];

/** Narrow padding, so that all choices fit side by side on the narrowest phone. */
const NARROW = { label: { paddingInline: "clamp(4px, 1.6vw, 12px)" } };

/** Filters for the days and the environment of a report. */
export function RangeBar() {
  const { set } = useFilters();
  const { from, to, preset, environment, setRange } = useRange();
  const [custom, setCustom] = useState(false);
  const shown = custom ? "custom" : preset;
  const choose = (value: string) => {
    setCustom(value === "custom");
    if (value !== "custom") setRange(value as Preset);
  };
  return (
    <Group component="search" aria-label="Days and environment" gap="sm">
      <SegmentedControl aria-label="Days" data={CHOICES} value={shown} onChange={choose} maw="100%" styles={NARROW} />
      <SegmentedControl
        aria-label="Environment"
        data={ENVIRONMENTS}
        value={environment}
        onChange={(value) => set("environment", value === "live" ? null : value)}
      />
      {shown === "custom" && <CustomDays from={from} to={to} onChange={setRange} />}
      <Text size="sm" c="dimmed" py={8}>
        {formatDay(from)} to {formatDay(to)}, UTC
      </Text>
    </Group>
  );
}

interface CustomProps {
  from: string;
  to: string;
  onChange: (range: { from: string; to: string }) => void;
}

/** Two date fields, applied as soon as they are a valid range. */
function CustomDays({ from, to, onChange }: CustomProps) {
  const [days, setDays] = useState({ from, to });
  const problem = rangeProblem(days.from, days.to);
  const change = (next: typeof days) => {
    setDays(next);
    if (rangeProblem(next.from, next.to) === null) onChange(next);
  };
  return (
    <Box>
      <Group gap="xs">
        <TextInput
          type="date"
          aria-label="First day"
          w={145}
          value={days.from}
          onChange={({ currentTarget }) => change({ ...days, from: currentTarget.value })}
          error={problem !== null}
        />
        <TextInput
          type="date"
          aria-label="Last day"
          w={145}
          value={days.to}
          onChange={({ currentTarget }) => change({ ...days, to: currentTarget.value })}
          error={problem !== null}
        />
      </Group>
      {problem !== null && (
        <Text size="xs" c="var(--mantine-color-error)" role="alert">
          {problem}
        </Text>
      )}
    </Box>
  );
}
