import { TextInput } from "@mantine/core";
import { useState, type ReactNode } from "react";

import { readWhole, type Bounds } from "../logic/numbers";

interface Props extends Bounds {
  label: string;
  /** What was typed, as it was typed. */
  value: string;
  onChange: (text: string) => void;
  description?: ReactNode;
  placeholder?: string;
  /** What is wrong beyond the number itself: said by the form or the server. */
  error?: string | undefined;
  readOnly?: boolean;
}

/**
 * The field of every form for a whole number. It keeps the text that was typed and says at the field what is wrong with
 * it; the form reads the same text with `readWhole`. An empty field is not complained about until it is left.
 */
export function NumberField({ least, most, optional = false, value, onChange, error, ...rest }: Props) {
  const [left, setLeft] = useState(false);
  const { problem } = readWhole(value, { least, most, optional });
  return (
    <TextInput
      {...rest}
      required={!optional}
      inputMode="numeric"
      autoComplete="off"
      value={value}
      error={(value === "" && !left ? null : problem) ?? error}
      onBlur={() => setLeft(true)}
      onChange={({ currentTarget }) => onChange(currentTarget.value)}
    />
  );
}
