import { Stack, Text } from "@mantine/core";
import { useInfiniteQuery } from "@tanstack/react-query";
import { useState } from "react";

import { api, bodyOf } from "../../api/client";
import type { Hold, User } from "../../api/models";
import { Copyable } from "../../components/Copyable";
import { type Column } from "../../components/DataTable";
import { EmptyState } from "../../components/EmptyState";
import { LoadMore } from "../../components/LoadMore";
import { OpenOrAll, type Shown } from "../../components/OpenOrAll";
import { QueryTable } from "../../components/QueryTable";
import { Section } from "../../components/Section";
import { Tag, type Tone } from "../../components/Tag";
import { Timestamp } from "../../components/Timestamp";
import { formatAmount } from "../../logic/decimals";
import { formatCredits, humanize } from "../../logic/format";

const TONES: Record<Hold["status"], Tone> = { held: "info", captured: "good", released: "quiet", expired: "warn" };
const STATUSES: Record<Hold["status"], string> = { held: "Open", captured: "Captured", released: "Released", expired: "Expired" };
const ON_EXPIRY: Record<Hold["on_expiry"], string> = {
  release: "costs nothing then",
  capture_reported: "costs the reported progress then",
  capture_all: "costs all of it then",
};

/** Amounts of an account that are reserved for work. */
export function HoldsSection({ user }: { user: User }) {
  const [show, setShow] = useState<Shown>("open");
  const query = useInfiniteQuery({
    queryKey: ["holds", user.account_id, show],
    initialPageParam: null as string | null,
    queryFn: ({ pageParam, signal }) =>
      bodyOf(
        api.GET("/admin/users/{account_id}/holds", {
          params: { path: { account_id: user.account_id }, query: { show, cursor: pageParam, limit: 20 } },
          signal,
        }),
      ),
    getNextPageParam: (last) => last.next_cursor,
  });
  const { data, error, refetch } = query;
  return (
    <Section
      title="Holds"
      aside={
        <OpenOrAll what="Holds" value={show} onChange={setShow} />
      }
    >
      <QueryTable
        error={error}
        onRetry={() => void refetch()}
        label="Holds"
        columns={COLUMNS}
        rows={data?.pages.flatMap(({ holds }) => holds)}
        rowKey={({ hold_id }) => hold_id}
        empty={<EmptyState title={show === "open" ? "No open holds" : "No holds"}>A hold reserves an amount until its work is settled, a day at most.</EmptyState>}
      />
      <LoadMore query={query} />
    </Section>
  );
}

const COLUMNS: Column<Hold>[] = [
  { name: "Amount", cell: (hold) => <Amount hold={hold} /> },
  { name: "Status", cell: ({ status }) => <Tag tone={TONES[status]}>{STATUSES[status]}</Tag> },
  { name: "Work", cell: (hold) => <Work hold={hold} />, from: "sm" },
  { name: "Expires", cell: (hold) => <Expiry hold={hold} />, from: "md" },
  { name: "Opened", cell: ({ created_at }) => <Timestamp at={created_at} exact />, from: "lg" },
  { name: "Id", cell: ({ hold_id }) => <Copyable value={hold_id} what="the hold id" short />, from: "lg" },
];

function amountOf(hold: Hold, name: "amount" | "captured" | "reported"): string {
  const credits = hold[`${name}_minor`];
  return credits === null ? formatAmount(hold[name] ?? "0", hold.unit) : formatCredits(credits / 100);
}

function Amount({ hold }: { hold: Hold }) {
  const reported = hold.status === "held" && Number(hold.reported_minor ?? hold.reported) > 0;
  return (
    <Stack gap={0}>
      <Text size="sm" fw={600} className="numeric">
        {amountOf(hold, "amount")}
      </Text>
      {hold.status !== "held" && (
        <Text size="xs" c="dimmed" className="numeric">
          {amountOf(hold, "captured")} captured
        </Text>
      )}
      {reported && (
        <Text size="xs" c="dimmed" className="numeric">
          {amountOf(hold, "reported")} reported
        </Text>
      )}
    </Stack>
  );
}

function Work({ hold: { product_type, run_id, outcome } }: { hold: Hold }) {
  const facts = [product_type, run_id && `run ${run_id}`, outcome && humanize(outcome)].filter(Boolean);
  return (
    <Text size="sm" style={{ overflowWrap: "anywhere" }}>
      {facts.join(" · ") || "—"}
    </Text>
  );
}

function Expiry({ hold }: { hold: Hold }) {
  if (hold.status !== "held") return <Timestamp at={hold.settled_at} exact />;
  return (
    <Stack gap={0}>
      <Timestamp at={hold.expires_at} exact />
      <Text size="xs" c="dimmed">
        {ON_EXPIRY[hold.on_expiry]}
      </Text>
    </Stack>
  );
}
