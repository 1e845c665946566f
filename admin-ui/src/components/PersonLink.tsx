import { Anchor } from "@mantine/core";
import { Link } from "react-router";

import type { Person } from "../api/models";
import { personOf } from "../logic/names";
import { Breakable } from "./Breakable";

interface Props {
  person: Person;
  accountId: string;
  size?: "xs" | "sm";
}

/** A person's name, linked to the user page. */
export function PersonLink({ person, accountId, size = "sm" }: Props) {
  return (
    <Anchor component={Link} to={`/users/${accountId}`} size={size} underline="always" title={accountId} style={{ overflowWrap: "anywhere" }}>
      <Breakable text={personOf(person, accountId)} />
    </Anchor>
  );
}
