import { Anchor, Collapse, Group, Text, UnstyledButton } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import {
  IconArrowDownLeft,
  IconArrowUpRight,
  IconChevronDown,
  IconCoins,
  IconCreditCard,
  IconGauge,
  IconGift,
  IconShieldCog,
  IconTool,
} from "@tabler/icons-react";
import { useId } from "react";
import { Link } from "react-router";

import type { Move, TimelineEntry } from "../../api/models";
import { Diff } from "../../components/Diff";
import { Facts as FactList } from "../../components/Facts";
import { Timestamp } from "../../components/Timestamp";
import { flatten, type Facts } from "../../logic/diff";
import { humanize } from "../../logic/format";
import { amountOf, balanceOf, wasFree } from "../../logic/timeline";
import { humanizeFacts } from "../../logic/fieldLabels";
import { ACTIONS } from "../audit/labels";
import classes from "./TimelineItem.module.css";

const ICONS: Record<TimelineEntry["kind"], typeof IconTool> = {
  charge: IconArrowUpRight,
  tool_use: IconTool,
  usage: IconGauge,
  credit: IconArrowDownLeft,
  money: IconCoins,
  grant: IconGift,
  purchase: IconCreditCard,
  admin: IconShieldCog,
};
const KIND: Record<TimelineEntry["kind"], string> = {
  charge: "Charge",
  tool_use: "Tool use",
  usage: "Usage event",
  credit: "Credit",
  money: "Money",
  grant: "Grant",
  purchase: "Purchase",
  admin: "Admin",
};

export function TimelineItem({ entry, accountId }: { entry: TimelineEntry; accountId: string }) {
  const [opened, { toggle }] = useDisclosure(false);
  const details = useId();
  const Icon = ICONS[entry.kind];
  return (
    <li className={classes.item}>
      <UnstyledButton className={classes.line} onClick={toggle} aria-expanded={opened} aria-controls={details}>
        <Icon size={18} stroke={1.6} aria-hidden className={classes.icon} />
        <span className={classes.what}>
          <span className={classes.text}>
            <Text span size="sm" fw={500}>
              {titleOf(entry)}
            </Text>
            <Text span size="xs" c="dimmed" display="block">
              {kindOf(entry)} · <Timestamp at={entry.at} exact />
            </Text>
          </span>
          <Moves entry={entry} />
        </span>
        <IconChevronDown size={16} aria-hidden className={classes.chevron} data-opened={opened || undefined} />
      </UnstyledButton>
      <Collapse expanded={opened} id={details}>
        <div className={classes.details}>
          <FactList facts={factsOf(entry)} />
          {entry.kind === "admin" && (
            <Diff before={humanizeFacts(entry.details.before as Facts | null)} after={humanizeFacts(entry.details.after as Facts | null)} />
          )}
          {entry.kind === "usage" && (
            <Group mt="xs">
              <Anchor component={Link} to={`/usage/${accountId}/${entry.id}`} size="sm">
                View usage event
              </Anchor>
            </Group>
          )}
          {typeof entry.details.purchase_id === "string" && (
            <Group mt="xs">
              <Anchor component={Link} to={`/purchases/${entry.details.purchase_id}`} size="sm">
                View purchase
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
  return kind === "charge" || kind === "usage" ? title : humanize(title);
}

/** Return the label of an entry's kind: credits by their type, adjustments with their admin. */
function kindOf({ kind, details }: TimelineEntry): string {
  const { transaction_type: type, admin } = details;
  if (kind === "admin" || typeof type !== "string") return KIND[kind];
  return typeof admin === "string" ? `${humanize(type)} by ${admin}` : humanize(type);
}

function Moves({ entry }: { entry: TimelineEntry }) {
  if (entry.moves.length === 0) return null;
  const free = wasFree(entry);
  return (
    <span className={classes.moves}>
      {entry.moves.map((move) => (
        <span key={move.pool} className={classes.move}>
          <Text span size="sm" fw={free ? 500 : 600} c={free ? "dimmed" : undefined} className={amountClass(move)}>
            {amountOf(move)}
          </Text>
          <Text span size="xs" c="dimmed" className="numeric">
            {balanceOf(move)}
          </Text>
        </span>
      ))}
    </span>
  );
}

function amountClass({ pool, delta }: Move): string {
  return delta > 0 && pool !== "debt" ? `numeric ${classes.gained}` : "numeric";
}

/** Return an entry's non-empty details. The changes of an admin action are shown as a diff instead. */
function factsOf({ kind, details, id }: TimelineEntry): [string, string][] {
  const { before, after, metadata, ...rest } = details;
  const known = kind === "admin" ? rest : { ...rest, before, after };
  // The purchase is shown as a link.
  const shown = Object.fromEntries(
    Object.entries(known).filter(([name, value]) => name !== "purchase_id" && value !== null && value !== undefined),
  );
  const facts = flatten(humanizeFacts(shown) ?? {});
  const more = flatten((metadata as Facts | undefined) ?? {}).map(([name, value]): [string, string] => [humanize(name), value]);
  return [...facts, ...more, ["Id", id]];
}
