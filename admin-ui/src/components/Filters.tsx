import { Button, Select, TextInput } from "@mantine/core";
import { useDebouncedCallback } from "@mantine/hooks";
import { IconSearch } from "@tabler/icons-react";
import { useState } from "react";
import { useSearchParams } from "react-router";

import { isFiltered, onlyKept, trimmed, withFilter } from "../logic/filters";

export function useFilters() {
  const [params, setParams] = useSearchParams();
  return {
    params,
    get: (name: string) => {
      const value = params.get(name);
      return value === null ? null : trimmed(value);
    },
    set: (name: string, value: string | string[] | null) =>
      setParams((now) => withFilter(now, name, value), { replace: true }),
    clear: () => setParams({}),
    filtered: isFiltered(params),
  };
}

interface FieldProps {
  name: string;
  label: string;
  width?: number;
}

interface ChoiceProps extends FieldProps {
  choices: Record<string, string>;
  /** Use the full width. */
  wide?: boolean;
  /** The label of the empty choice. */
  placeholder?: string;
}

/** A select filter; without a choice it does not filter. */
export function ChoiceFilter({ name, label, width = 150, choices, wide = false, placeholder = "All" }: ChoiceProps) {
  const { get, set } = useFilters();
  return (
    <Select
      label={label}
      placeholder={placeholder}
      clearable
      clearButtonProps={{ "aria-label": `Clear ${label}` }}
      w={wide ? "100%" : { base: "calc(50% - 6px)", xs: width }}
      data={Object.entries(choices).map(([value, text]) => ({ value, label: text }))}
      value={get(name)}
      onChange={(value) => set(name, value)}
      comboboxProps={{ withinPortal: true }}
    />
  );
}

interface TextProps extends FieldProps {
  placeholder?: string;
  /** Use half the width on phones. */
  narrow?: boolean;
}

/** A text filter, applied when typing pauses. */
export function TextFilter({ name, label, width, placeholder, narrow = false }: TextProps) {
  const { get, set } = useFilters();
  const inUrl = get(name) ?? "";
  const [text, setText] = useState(inUrl);
  const [seen, setSeen] = useState(inUrl);
  const [sent, setSent] = useState(inUrl);
  if (seen !== inUrl) {
    setSeen(inUrl);
    // Take over changes from elsewhere (back, clear, a link), but not the echo of this field's own input.
    if (inUrl !== sent) setText(inUrl);
  }
  const apply = useDebouncedCallback((value: string) => {
    setSent(value);
    set(name, value);
  }, 300);
  return (
    <TextInput
      label={label}
      placeholder={placeholder}
      type="search"
      leftSection={<IconSearch size={16} aria-hidden />}
      w={{ base: narrow ? "calc(50% - 6px)" : "100%", xs: width ?? 280 }}
      value={text}
      onChange={({ currentTarget: { value } }) => {
        setText(value);
        apply(trimmed(value));
      }}
    />
  );
}

export function DayFilter({ name, label }: FieldProps) {
  const { get, set } = useFilters();
  return (
    <TextInput
      label={label}
      type="date"
      w={{ base: "calc(50% - 6px)", xs: 140 }}
      value={get(name) ?? ""}
      onChange={({ currentTarget: { value } }) => set(name, value)}
    />
  );
}

/** A button that removes all filters but those to `keep`, such as the tab; hidden without filters. */
export function ClearFilters({ keep = [] }: { keep?: readonly string[] }) {
  const [params, setParams] = useSearchParams();
  if (!isFiltered(params, keep)) return null;
  return (
    <Button variant="subtle" onClick={() => setParams((now) => onlyKept(now, keep))}>
      Clear
    </Button>
  );
}
