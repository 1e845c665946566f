import { TextInput } from "@mantine/core";
import { useState, type ReactNode } from "react";

import { readWhole, type Bounds } from "../logic/numbers";

interface Props extends Bounds {
  label: string;
  /** The typed text, unchanged. */
  value: string;
  onChange: (text: string) => void;
  description?: ReactNode;
  placeholder?: string;
  /** An error from the form or the server about a valid number. */
  error?: string | undefined;
  readOnly?: boolean;
}

/**
 * A field for a whole number. It keeps the typed text and shows validation errors; the form parses the same text with
 * `readWhole`. An empty field shows an error only after it loses focus.
 */
export function NumberField({ least, most, optional = false, value, onChange, error, ...rest }: Props) {
  const [touched, setTouched] = useState(false);
  const { problem } = readWhole(value, { least, most, optional });
  return (
    <TextInput
      {...rest}
      required={!optional}
      inputMode="numeric"
      autoComplete="off"
      value={value}
      error={(value === "" && !touched ? null : problem) ?? error}
      onBlur={() => setTouched(true)}
      onChange={({ currentTarget }) => onChange(currentTarget.value)}
    />
  );
}
