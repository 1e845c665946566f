import { TextInput } from "@mantine/core";

import { readAmount } from "../logic/amounts";

interface Props {
  label: string;
  description: string;
  /** The typed text, unchanged. The form parses it with `readAmount`. */
  value: string;
  onChange: (text: string) => void;
  required: boolean;
  /** An error from the server about a valid amount. */
  error: string | null | undefined;
}

/** A field for an amount of money in the major unit of a currency that the field does not know. */
export function AmountField({ value, onChange, error, ...rest }: Props) {
  return (
    <TextInput
      {...rest}
      inputMode="decimal"
      autoComplete="off"
      value={value}
      error={readAmount(value).problem ?? error}
      onChange={({ currentTarget }) => onChange(currentTarget.value)}
    />
  );
}
