import { Paper, SimpleGrid, Stack, Text } from "@mantine/core";
import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { useState } from "react";

import { api, bodyOf } from "../../api/client";
import type { Grant, User, Wallet } from "../../api/models";
import { type Column } from "../../components/DataTable";
import { EmptyState } from "../../components/EmptyState";
import { ErrorAlert } from "../../components/ErrorAlert";
import { LoadMore } from "../../components/LoadMore";
import { OpenOrAll, type Shown } from "../../components/OpenOrAll";
import { QueryTable } from "../../components/QueryTable";
import { RoleButton } from "../../components/RoleButton";
import { Section } from "../../components/Section";
import { Tag } from "../../components/Tag";
import { Timestamp } from "../../components/Timestamp";
import { formatAmount, isZero } from "../../logic/decimals";
import { formatCredits, formatNumber, humanize } from "../../logic/format";
import { categoryName, grantAmount } from "../../logic/grants";
import { EndGrantDialog } from "./EndGrantDialog";
import { GrantDialog } from "./GrantDialog";

/** An account's money, and its grants of credits and of money. */
export function WalletSection({ user }: { user: User }) {
  const [giving, setGiving] = useState(false);
  const { data: wallet, error, refetch } = useQuery({
    queryKey: ["wallet", user.account_id],
    queryFn: ({ signal }) =>
      bodyOf(api.GET("/admin/users/{account_id}/wallet", { params: { path: { account_id: user.account_id } }, signal })),
  });
  return (
    <>
      <Section title="Money">
        {error ? <ErrorAlert error={error} onRetry={() => void refetch()} /> : wallet === undefined ? <Text size="sm">Loading…</Text> : <Money wallet={wallet} />}
      </Section>
      <Grants
        user={user}
        aside={
          <RoleButton
            needs="support"
            size="xs"
            blocked={user.status === "closed" ? "The account is closed" : null}
            onClick={() => setGiving(true)}
          >
            Give grant
          </RoleButton>
        }
      />
      {giving && <GrantDialog user={user} onClose={() => setGiving(false)} />}
    </>
  );
}

function Money({ wallet }: { wallet: Wallet }) {
  const { currency, debt } = wallet;
  const money = (amount: string) => formatAmount(amount, currency);
  const held = [
    wallet.held_credits > 0 && formatCredits(wallet.held_credits),
    !isZero(wallet.held_money) && money(wallet.held_money),
  ].filter((part) => part !== false);
  return (
    <>
      {!wallet.billing_enabled && (
        <Text size="sm" mb="sm">
          <Tag tone="warn">Not billed</Tag> Usage is recorded and priced, never charged.
        </Text>
      )}
      <SimpleGrid cols={{ base: 2, sm: 4 }} spacing="sm">
        <Amount name="Balance" value={money(wallet.money)} hint="Spent after grants; never expires" />
        <Amount name="Open grants" value={money(wallet.granted_money)} hint={`and ${formatCredits(wallet.granted_credits)}`} />
        <Amount name="Debt" value={money(debt)} hint="Paid by the next purchase" alarming={!isZero(debt)} />
        <Amount name="Held" value={held.join(" and ") || money(wallet.held_money)} hint="For work that is running" />
        <Amount name="Purchased" value={money(wallet.lifetime_purchased)} hint="Since the account was created" />
        <Amount name="Granted" value={money(wallet.lifetime_granted)} hint="Since the account was created" />
        <Amount name="Used" value={money(wallet.lifetime_used)} hint="Since the account was created" />
      </SimpleGrid>
    </>
  );
}

interface AmountProps {
  name: string;
  value: string;
  hint: string;
  alarming?: boolean;
}

function Amount({ name, value, hint, alarming = false }: AmountProps) {
  return (
    <Paper withBorder p="sm">
      <Text size="sm" c="dimmed">
        {name}
      </Text>
      <Text
        size="md"
        fw={650}
        className="numeric"
        style={{ whiteSpace: "normal" }}
        c={alarming ? "var(--mantine-color-error)" : undefined}
      >
        {value}
      </Text>
      <Text size="xs" c="dimmed">
        {hint}
      </Text>
    </Paper>
  );
}


function Grants({ user, aside }: { user: User; aside: React.ReactNode }) {
  const [show, setShow] = useState<Shown>("open");
  const [ending, setEnding] = useState<Grant | null>(null);
  const query = useInfiniteQuery({
    queryKey: ["grants", user.account_id, show],
    initialPageParam: 0,
    queryFn: ({ pageParam, signal }) =>
      bodyOf(
        api.GET("/admin/users/{account_id}/grants", {
          params: { path: { account_id: user.account_id }, query: { show, cursor: pageParam, limit: 20 } },
          signal,
        }),
      ),
    getNextPageParam: (last) => last.next_cursor,
  });
  const { data, error, refetch } = query;
  const end: Column<Grant> = {
    name: "End",
    hiddenName: true,
    numeric: true,
    cell: (grant) =>
      grant.status === "active" && (
        <RoleButton needs="support" size="xs" aria-label={`End grant of ${grantAmount(grant.amount, grant.unit)}`} onClick={() => setEnding(grant)}>
          End
        </RoleButton>
      ),
  };
  return (
    <Section
      title="Grants"
      aside={
        <>
          <OpenOrAll what="Grants" value={show} onChange={setShow} />
          {aside}
        </>
      }
    >
      <QueryTable
        error={error}
        onRetry={() => void refetch()}
        label="Grants"
        columns={[...COLUMNS, end]}
        rows={data?.pages.flatMap(({ grants }) => grants)}
        rowKey={({ grant_id }) => grant_id}
        wide
        empty={<EmptyState title={show === "open" ? "No open grants" : "No grants"}>Grants are spent before the balances, the lowest priority number first.</EmptyState>}
      />
      <LoadMore query={query} />
      {ending !== null && <EndGrantDialog user={user} grant={ending} onClose={() => setEnding(null)} />}
    </Section>
  );
}

const TONES = { active: "good", expired: "quiet", closed: "quiet" } as const;

const COLUMNS: Column<Grant>[] = [
  { name: "Remaining", cell: (grant) => <Remaining grant={grant} /> },
  { name: "Status", cell: ({ status }) => <Tag tone={TONES[status]}>{status === "active" ? "Open" : humanize(status)}</Tag>, from: "sm" },
  { name: "Category", cell: ({ category }) => categoryName(category), from: "sm" },
  { name: "Source", cell: ({ source }) => humanize(source), from: "lg" },
  { name: "Priority", numeric: true, cell: ({ priority }) => formatNumber(priority), from: "md" },
  { name: "Expires", cell: ({ expires_at }) => <Timestamp at={expires_at} missing="Never" />, from: "xs" },
  { name: "Created", cell: ({ created_at }) => <Timestamp at={created_at} />, from: "xl" },
];

function Remaining({ grant: { amount, remaining, unit, expires_at } }: { grant: Grant }) {
  return (
    <Stack gap={0}>
      <Text size="sm" fw={600} className="numeric">
        {grantAmount(remaining, unit)}
      </Text>
      <Text size="xs" c="dimmed" className="numeric">
        of {grantAmount(amount, unit)}
      </Text>
      {expires_at !== null && (
        <Text size="xs" c="dimmed" hiddenFrom="xs">
          until <Timestamp at={expires_at} />
        </Text>
      )}
    </Stack>
  );
}
