import { TextInput } from "@mantine/core";

interface Props {
  /** The effect on accounts in another currency. */
  description: string;
  value: string;
  onChange: (currency: string) => void;
  readOnly: boolean;
  error: string | undefined;
}

/** The currency of a section's amounts. */
export function CurrencyField({ description, value, onChange, readOnly, error }: Props) {
  return (
    <TextInput
      label="Currency"
      description={description}
      required
      readOnly={readOnly}
      maxLength={3}
      value={value}
      onChange={({ currentTarget }) => onChange(currentTarget.value.toUpperCase())}
      error={error}
    />
  );
}
