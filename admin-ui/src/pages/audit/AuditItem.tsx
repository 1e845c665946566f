import { Anchor, Group, Text } from "@mantine/core";
import { Link } from "react-router";

import type { AuditEntry } from "../../api/models";
import { CopyIcon } from "../../components/Copyable";
import { Diff } from "../../components/Diff";
import { EnvironmentTag } from "../../components/states";
import { Timestamp } from "../../components/Timestamp";
import { factsOf } from "../../logic/configuration";
import { humanize, shortId } from "../../logic/format";
import { personOf } from "../../logic/names";
import { humanizeFacts, humanizeRefund } from "../../logic/fieldLabels";
import classes from "./AuditItem.module.css";
import { ACTIONS, pageOf, TARGETS } from "./labels";

export function AuditItem({ entry }: { entry: AuditEntry }) {
  return (
    <li className={classes.item}>
      <Group justify="space-between" gap={4} wrap="wrap">
        <Group gap="xs">
          <Text span size="sm" fw={600}>
            {ACTIONS[entry.action] ?? humanize(entry.action)}
          </Text>
          {entry.environment !== null && <EnvironmentTag environment={entry.environment} />}
        </Group>
        <Text span size="xs" c="dimmed">
          <Timestamp at={entry.created_at} />
        </Text>
      </Group>
      <Text size="xs" c="dimmed" component="div">
        {entry.admin_email} from {entry.address} · <Target entry={entry} /> · request id{" "}
        <span title={entry.request_id}>{shortId(entry.request_id)}</span>{" "}
        <CopyIcon value={entry.request_id} label="Copy the request id" />
      </Text>
      {entry.reason !== null && (
        <Text size="sm" className={classes.reason} component="blockquote">
          {entry.reason}
        </Text>
      )}
      <Diff removals={entry.target_type === "config"} {...changeOf(entry)} />
    </li>
  );
}

/** Return the readable values before and after. A configuration document is split into its entries. */
function changeOf({ target_type, action, before, after }: AuditEntry): Pick<AuditEntry, "before" | "after"> {
  if (action === "purchase.refund") return humanizeRefund(before, after);
  return { before: shown(target_type, before), after: shown(target_type, after) };
}

function shown(targetType: string, state: AuditEntry["before"]): AuditEntry["before"] {
  if (targetType !== "config" || state === null) return humanizeFacts(state);
  const { document, ...rest } = state;
  return humanizeFacts({ ...rest, ...factsOf(document as AuditEntry["before"]) });
}

function Target({ entry }: { entry: AuditEntry }) {
  const page = pageOf(entry.target_type, entry.target_id);
  const { person } = entry;
  const kind = TARGETS[entry.target_type] ?? humanize(entry.target_type);
  // The person of a purchase is its buyer.
  const name = person === null ? shortId(entry.target_id) : personOf(person, entry.target_id);
  const text = person !== null && entry.target_type === "purchase" ? `${kind} of ${name}` : `${kind} ${name}`;
  if (page === null) return text;
  return (
    <Anchor component={Link} to={page} size="xs" underline="always" title={entry.target_id} style={{ overflowWrap: "anywhere" }}>
      {text}
    </Anchor>
  );
}
