import { SegmentedControl } from "@mantine/core";

export type Shown = "open" | "all";

interface Props {
  /** The items of the list, in the plural: "Grants". */
  what: string;
  value: Shown;
  onChange: (value: Shown) => void;
}

/** Chooses whether a list shows its open items or all of them. */
export function OpenOrAll({ what, value, onChange }: Props) {
  return (
    <SegmentedControl
      size="xs"
      aria-label={`${what} to show`}
      data={[
        { value: "open", label: "Open" },
        { value: "all", label: "All" },
      ]}
      value={value}
      onChange={onChange}
    />
  );
}
