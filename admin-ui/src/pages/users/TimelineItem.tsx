import { Anchor, Collapse, Group, Text, UnstyledButton } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import {
  IconArrowDownLeft,
  IconArrowUpRight,
  IconChevronDown,
  IconCreditCard,
  IconShieldCog,
  IconTool,
} from "@tabler/icons-react";
import { useId } from "react";
import { Link } from "react-router";

import type { TimelineEntry } from "../../api/models";
import { Diff } from "../../components/Diff";
import { Facts as FactList } from "../../components/Facts";
import { Timestamp } from "../../components/Timestamp";
import { flatten, type Facts } from "../../logic/diff";
import { formatChange, humanize } from "../../logic/format";
import { inWords } from "../../logic/told";
import { ACTIONS } from "../audit/labels";
import classes from "./TimelineItem.module.css";

const ICONS: Record<TimelineEntry["kind"], typeof IconTool> = {
  charge: IconArrowUpRight,
  tool_use: IconTool,
  credit: IconArrowDownLeft,
  purchase: IconCreditCard,
  admin: IconShieldCog,
};
const KIND: Record<TimelineEntry["kind"], string> = {
  charge: "Charge",
  tool_use: "Tool use",
  credit: "Credit",
  purchase: "Purchase",
  admin: "Admin",
};

export function TimelineItem({ entry }: { entry: TimelineEntry }) {
  const [opened, { toggle }] = useDisclosure(false);
  const details = useId();
  const Icon = ICONS[entry.kind];
  return (
    <li className={classes.item}>
      <UnstyledButton className={classes.line} onClick={toggle} aria-expanded={opened} aria-controls={details}>
        <Icon size={18} stroke={1.6} aria-hidden className={classes.icon} />
        <span className={classes.text}>
          <Text span size="sm" fw={500}>
            {titleOf(entry)}
          </Text>
          <Text span size="xs" c="dimmed" display="block">
            {kindOf(entry)} · <Timestamp at={entry.at} />
          </Text>
        </span>
        <Amount credits={entry.credits} />
        <IconChevronDown size={16} aria-hidden className={classes.chevron} data-opened={opened || undefined} />
      </UnstyledButton>
      <Collapse expanded={opened} id={details}>
        <div className={classes.details}>
          <FactList facts={factsOf(entry)} />
          {entry.kind === "admin" && (
            <Diff before={inWords(entry.details.before as Facts | null)} after={inWords(entry.details.after as Facts | null)} />
          )}
          {entry.kind === "purchase" && (
            <Group mt="xs">
              <Anchor component={Link} to={`/purchases/${entry.id}`} size="sm">
                Open the purchase
              </Anchor>
            </Group>
          )}
        </div>
      </Collapse>
    </li>
  );
}

function titleOf({ kind, title }: TimelineEntry): string {
  if (kind === "admin") return ACTIONS[title] ?? humanize(title);
  return kind === "charge" ? title : humanize(title);
}

/** A credit's type tells a refund from a gift: its title does not always. */
function kindOf({ kind, details }: TimelineEntry): string {
  const type = details.transaction_type;
  return kind === "credit" && typeof type === "string" ? humanize(type) : KIND[kind];
}

function Amount({ credits }: { credits: number | null }) {
  if (credits === null) return null;
  return (
    <Text span size="sm" fw={600} className={credits > 0 ? `numeric ${classes.gained}` : "numeric"}>
      {formatChange(credits)}
    </Text>
  );
}

/** What an admin's action changed is shown as such; of all else, what says something. */
function factsOf({ kind, details, id }: TimelineEntry): [string, string][] {
  const { before, after, metadata, ...rest } = details;
  const known = kind === "admin" ? rest : { ...rest, before, after };
  const told = Object.fromEntries(Object.entries(known).filter(([, value]) => value !== null && value !== undefined));
  const facts = flatten(inWords(told) ?? {});
  const more = flatten((metadata as Facts | undefined) ?? {}).map(([name, value]): [string, string] => [humanize(name), value]);
  return [...facts, ...more, ["Id", id]];
}
