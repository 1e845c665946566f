import { Textarea } from "@mantine/core";

const LEAST = 3;
const MOST = 500;

/** Return why a reason is not valid; null: it is. */
export function reasonProblem(text: string): string | null {
  const { length } = text.trim();
  if (length < LEAST) return `Enter a reason of at least ${LEAST} characters`;
  return length > MOST ? `Shorten the reason to ${MOST} characters` : null;
}

interface Props {
  value: string;
  onChange: (value: string) => void;
  description?: string;
  placeholder?: string;
  error?: string;
}

export function ReasonField({ value, onChange, description = "Recorded in the audit log.", placeholder, error }: Props) {
  return (
    <Textarea
      label="Reason"
      description={description}
      placeholder={placeholder}
      required
      data-autofocus
      autosize
      minRows={2}
      value={value}
      error={error ?? (value === "" ? undefined : reasonProblem(value))}
      onChange={({ currentTarget }) => onChange(currentTarget.value)}
    />
  );
}
