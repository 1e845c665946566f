import { Anchor, Group, SimpleGrid, Stack, Text, Title } from "@mantine/core";
import { useInfiniteQuery } from "@tanstack/react-query";
import { useState } from "react";
import { Link } from "react-router";

import { api, bodyOf } from "../../api/client";
import type { AutoRefill, Refill, SavedCard, User } from "../../api/models";
import { DataTable, type Column } from "../../components/DataTable";
import { ErrorAlert } from "../../components/ErrorAlert";
import { Facts } from "../../components/Facts";
import { LoadMore } from "../../components/LoadMore";
import { ReasonDialog } from "../../components/ReasonDialog";
import { RoleButton } from "../../components/RoleButton";
import { Section } from "../../components/Section";
import { Tag, type Tone } from "../../components/Tag";
import { Timestamp } from "../../components/Timestamp";
import { formatAmount } from "../../logic/decimals";
import { formatMoney } from "../../logic/format";
import { cardText, declineOf, obstacleOf, REFILL_STATES, REFILL_STATUSES, spentText } from "../../logic/refills";

const STATE: Partial<Record<AutoRefill["state"], Tone>> = {
  active: "good",
  in_flight: "info",
  backing_off: "warn",
  authentication_required: "warn",
  waiting_for_card: "warn",
  out_of_bounds: "bad",
};
const STATUS: Record<Refill["status"], Tone> = {
  in_flight: "info",
  action_required: "warn",
  paid: "good",
  declined: "bad",
  canceled: "quiet",
};

/** The automatic refills and the saved cards of an account. */
export function RefillsSection({ user }: { user: User }) {
  const [switchingOff, setSwitchingOff] = useState(false);
  const query = useInfiniteQuery({
    queryKey: ["refills", user.account_id],
    initialPageParam: null as string | null,
    queryFn: ({ pageParam, signal }) =>
      bodyOf(
        api.GET("/admin/users/{account_id}/refills", {
          params: { path: { account_id: user.account_id }, query: { cursor: pageParam, limit: 10 } },
          signal,
        }),
      ),
    getNextPageParam: (last) => last.next_cursor,
  });
  const { data, error, refetch } = query;
  const first = data?.pages[0];
  return (
    <Section
      title="Refills and saved cards"
      aside={
        first?.auto_refill.enabled === true && (
          <RoleButton needs="support" size="xs" onClick={() => setSwitchingOff(true)}>
            Switch refills off
          </RoleButton>
        )
      }
    >
      {error ? (
        <ErrorAlert error={error} onRetry={() => void refetch()} />
      ) : first === undefined ? (
        <Text size="sm">Loading…</Text>
      ) : (
        <Stack gap="md">
          <SimpleGrid cols={{ base: 1, lg: 2 }} spacing="lg">
            <Settings refill={first.auto_refill} currency={user.currency} />
            <Cards user={user} cards={first.cards} />
          </SimpleGrid>
          <div>
            <DataTable
              label="Refills"
              columns={columnsOf(user.currency)}
              rows={data?.pages.flatMap(({ refills }) => refills)}
              rowKey={({ purchase_id }) => purchase_id}
              empty={
                <Text size="sm" c="dimmed">
                  No refills so far.
                </Text>
              }
            />
            <LoadMore query={query} />
          </div>
        </Stack>
      )}
      {switchingOff && (
        <ReasonDialog
          texts={{
            title: "Switch refills off",
            confirm: "Switch off",
            danger: true,
            consequences: "No further refill starts until the user switches refills on. A payment that is under way is not canceled.",
            done: "Refills are off",
          }}
          onClose={() => setSwitchingOff(false)}
          act={(reason) =>
            bodyOf(
              api.PUT("/admin/users/{account_id}/auto-refill", {
                params: { path: { account_id: user.account_id } },
                body: { enabled: false, reason },
              }),
            )
          }
        />
      )}
    </Section>
  );
}

function Settings({ refill, currency }: { refill: AutoRefill; currency: string }) {
  const obstacle = obstacleOf(refill);
  return (
    <Stack gap="xs">
      <Title order={3} size="h6">
        Settings
      </Title>
      <Facts
        facts={[
          ["State", <Tag key="state" tone={STATE[refill.state] ?? "quiet"}>{REFILL_STATES[refill.state]}</Tag>],
          ["Starts below", formatMoney(refill.trigger_below_cents, currency)],
          ["Amount", formatMoney(refill.refill_amount_cents, currency)],
          ["This month", spentText(refill, currency)],
          ["Next attempt", refill.next_attempt_at === null ? null : <Timestamp key="next" at={refill.next_attempt_at} />],
          ["Note", obstacle],
        ]}
      />
    </Stack>
  );
}

function Cards({ user, cards }: { user: User; cards: SavedCard[] }) {
  const [removing, setRemoving] = useState<SavedCard | null>(null);
  return (
    <Stack gap="xs">
      <Title order={3} size="h6">
        Saved cards
      </Title>
      {cards.length === 0 && (
        <Text size="sm" c="dimmed">
          No saved card.
        </Text>
      )}
      {cards.map((card) => (
        <Group key={card.card_id} justify="space-between" gap="xs">
          <Group gap="xs">
            <Text size="sm" className="numeric">
              {cardText(card)}
            </Text>
            {card.is_primary && <Tag tone="info">Primary</Tag>}
          </Group>
          <RoleButton needs="support" size="xs" aria-label={`Remove ${cardText(card)}`} onClick={() => setRemoving(card)}>
            Remove
          </RoleButton>
        </Group>
      ))}
      {removing !== null && (
        <ReasonDialog
          texts={{
            title: `Remove ${cardText(removing)}`,
            confirm: "Remove card",
            danger: true,
            consequences: "The card is removed here and at Stripe. Refills wait until the user saves or chooses another card.",
            done: "The card is removed",
          }}
          onClose={() => setRemoving(null)}
          act={(reason) =>
            bodyOf(
              api.POST("/admin/users/{account_id}/cards/{card_id}/remove", {
                params: { path: { account_id: user.account_id, card_id: removing.card_id } },
                body: { reason },
              }),
            )
          }
        />
      )}
    </Stack>
  );
}

function columnsOf(currency: string): Column<Refill>[] {
  return [
    {
      name: "Refill",
      cell: ({ amount, purchase_id }) => (
        <Anchor component={Link} to={`/purchases/${purchase_id}`} size="sm" underline="always" className="numeric">
          {formatAmount(amount, currency)}
        </Anchor>
      ),
    },
    { name: "Status", cell: ({ status }) => <Tag tone={STATUS[status]}>{REFILL_STATUSES[status]}</Tag> },
    { name: "Reason", cell: ({ decline }) => (decline === null ? "—" : declineOf(decline)), from: "sm" },
    { name: "Started", cell: ({ created_at }) => <Timestamp at={created_at} /> },
    { name: "Finished", cell: ({ finished_at }) => <Timestamp at={finished_at} />, from: "md" },
  ];
}
