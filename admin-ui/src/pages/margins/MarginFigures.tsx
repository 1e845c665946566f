import { SimpleGrid, Text } from "@mantine/core";

import type { Margin, MarginOverview } from "../../api/models";
import { Section } from "../../components/Section";
import { DataTable } from "../../components/DataTable";
import { formatCents, formatRoundedCents, formatShare } from "../../logic/decimals";
import { formatMoney, formatNumber } from "../../logic/format";
import { Figure } from "../../reports/Figure";
import { salesIn } from "../../reports/usage";
import { Cents } from "./cents";

export function MarginFigures({ overview, currency }: { overview: MarginOverview; currency: string }) {
  const now = marginIn(overview.period, currency);
  const before = marginIn(overview.previous, currency);
  const { margin_cents: margin, interaction_revenue_cents: earned } = now;
  const share = margin !== null && earned !== null ? formatShare(margin, earned) : null;
  return (
    <SimpleGrid cols={{ base: 2, md: 5 }} spacing="sm">
      <Money
        name={`Revenue, ${currency}`}
        cents={now.revenue_cents}
        before={before.revenue_cents}
        currency={currency}
        hint={`${formatNumber(now.paid_spent)} paid credits`}
      />
      <Money
        name="Of interactions"
        cents={earned}
        before={before.interaction_revenue_cents}
        currency={currency}
        hint={`${formatNumber(now.interactions)} reported`}
      />
      <Money
        name="Of tools"
        cents={now.tool_revenue_cents}
        before={before.tool_revenue_cents}
        currency={currency}
        hint={`${formatNumber(now.tool_paid_spent)} paid credits`}
      />
      <Money name="LLM cost, USD" cents={now.cost_cents} before={before.cost_cents} currency="USD" hint="of interactions" />
      <Money
        name={`Margin, ${currency}`}
        cents={margin}
        before={before.margin_cents}
        currency={currency}
        hint={share === null ? "of interactions" : `${share} of interactions' revenue`}
      />
    </SimpleGrid>
  );
}

/** What the figures are, and why net sales are another. */
export function Definitions({ overview, currency }: { overview: MarginOverview; currency: string }) {
  const sales = salesIn(overview.sales, currency);
  return (
    <Text size="sm">
      <b>Revenue</b> is earned when paid credits are spent: their number, at what a paid credit brought on average. The{" "}
      <b>margin</b> is the revenue of interactions less the cost of LLM calls; what tools cost is not reported.{" "}
      <b>Net sales</b> are the money received for purchases begun in these days, less what went back:{" "}
      <b>{formatMoney(sales.net_minor, currency)}</b>. They differ from revenue because credits are sold on one day and spent on another.
    </Text>
  );
}

interface MoneyProps {
  name: string;
  cents: string | null;
  before: string | null;
  currency: string;
  hint?: string | undefined;
}

function Money({ name, cents, before, currency, hint }: MoneyProps) {
  if (cents === null) return <Figure name={name} value="—" hint={hint ?? "Nothing to reckon with"} />;
  return (
    <Figure
      name={name}
      value={formatRoundedCents(cents, currency)}
      exact={formatCents(cents, currency)}
      growth={before === null ? undefined : [cents, before]}
      hint={hint}
    />
  );
}

export function marginIn(margins: Margin[], currency: string): Margin {
  const none = {
    currency,
    paid_spent: 0,
    tool_paid_spent: 0,
    revenue_cents: "0",
    interaction_revenue_cents: "0",
    tool_revenue_cents: "0",
    interactions: 0,
    cost_cents: "0",
    margin_cents: currency === "USD" ? "0" : null,
  };
  return margins.find((one) => one.currency === currency) ?? none;
}

/** What margins reckon with: what a credit has brought, over all sales up to now. */
export function Prices({ prices }: Pick<MarginOverview, "prices">) {
  return (
    <Section title="What a credit brought">
      <DataTable
        label="What a credit brought"
        rows={prices}
        rowKey={({ currency }) => currency}
        empty={null}
        columns={[
          { name: "Currency", cell: ({ currency }) => currency },
          { name: "Net sales, ever", numeric: true, cell: ({ net_minor, currency }) => formatMoney(net_minor, currency) },
          { name: "Credits sold", numeric: true, from: "sm", cell: ({ credits_sold }) => formatNumber(credits_sold) },
          { name: "With gifts", numeric: true, from: "sm", cell: ({ credits_entered }) => formatNumber(credits_entered) },
          {
            name: "Per sold credit",
            numeric: true,
            from: "sm",
            cell: ({ cents_per_sold_credit, currency }) => <Cents cents={cents_per_sold_credit} currency={currency} fine />,
          },
          {
            name: "Per paid credit",
            numeric: true,
            cell: ({ cents_per_paid_credit, currency }) => <Cents cents={cents_per_paid_credit} currency={currency} fine />,
          },
        ]}
      />
    </Section>
  );
}
