import { Textarea } from "@mantine/core";

const LEAST = 3;
const MOST = 500;

export function isReason(text: string): boolean {
  return text.trim().length >= LEAST && text.trim().length <= MOST;
}

interface Props {
  value: string;
  onChange: (value: string) => void;
  description?: string;
  placeholder?: string;
  error?: string;
}

export function ReasonField({ value, onChange, description = "Kept in the audit log.", placeholder, error }: Props) {
  return (
    <Textarea
      label="Reason"
      description={description}
      placeholder={placeholder}
      required
      data-autofocus
      minLength={LEAST}
      maxLength={MOST}
      autosize
      minRows={2}
      value={value}
      error={error}
      onChange={({ currentTarget }) => onChange(currentTarget.value)}
    />
  );
}
