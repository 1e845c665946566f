import { SimpleGrid, Text } from "@mantine/core";

import type { Margin, MarginOverview } from "../../api/models";
import { TableSection } from "../../components/TableSection";
import { formatCents, formatRoundedCents, formatShare } from "../../logic/decimals";
import { formatCount, formatMoney, formatNumber } from "../../logic/format";
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
        hint={formatCount(now.paid_spent, "paid credit")}
      />
      <Money
        name="Interaction revenue"
        cents={earned}
        before={before.interaction_revenue_cents}
        currency={currency}
        hint={formatCount(now.interactions, "interaction")}
      />
      <Money
        name="Tool revenue"
        cents={now.tool_revenue_cents}
        before={before.tool_revenue_cents}
        currency={currency}
        hint={formatCount(now.tool_paid_spent, "paid credit")}
      />
      <Money name="LLM cost, USD" cents={now.cost_cents} before={before.cost_cents} currency="USD" hint="interactions only" />
      <Money
        name={`Margin, ${currency}`}
        cents={margin}
        before={before.margin_cents}
        currency={currency}
        hint={share === null ? "interactions only" : `${share} of interaction revenue`}
      />
    </SimpleGrid>
  );
}

/** Definitions of the figures, and how net sales differ from revenue. */
export function Definitions({ overview, currency }: { overview: MarginOverview; currency: string }) {
  const sales = salesIn(overview.sales, currency);
  return (
    <Text size="sm">
      <b>Revenue</b> is earned when paid credits are spent: the number of credits times the average price per paid credit.{" "}
      <b>Margin</b> is interaction revenue minus the cost of LLM calls; the cost of tools is not reported.{" "}
      <b>Net sales</b> is the money received for purchases created in this period, minus refunds and disputes:{" "}
      <b>{formatMoney(sales.net_minor, currency)}</b>. It differs from revenue because credits are spent later than they are sold.
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
  if (cents === null) return <Figure name={name} value="—" hint={hint ?? "No data"} />;
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

/** The average price per credit over all sales, on which revenue is based. */
export function Prices({ prices }: Pick<MarginOverview, "prices">) {
  return (
    <TableSection
      title="Average price per credit"
      rows={prices}
      rowKey={({ currency }) => currency}
      columns={[
        { name: "Currency", cell: ({ currency }) => currency },
        { name: "Net sales, all time", numeric: true, cell: ({ net_minor, currency }) => formatMoney(net_minor, currency) },
        { name: "Credits sold", numeric: true, from: "sm", cell: ({ credits_sold }) => formatNumber(credits_sold) },
        { name: "Including grants", numeric: true, from: "sm", cell: ({ credits_entered }) => formatNumber(credits_entered) },
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
  );
}
