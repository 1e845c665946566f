import { Anchor, SimpleGrid } from "@mantine/core";
import { Link } from "react-router";

import type { Overview } from "../../api/models";
import { formatAmount, formatCents, formatRoundedAmount, formatRoundedCents } from "../../logic/decimals";
import { formatCount, formatMoney, formatNumber } from "../../logic/format";
import { moneyCurrenciesOf, moneyIn } from "../../logic/money";
import { Figure, FigureSkeletons } from "../../reports/Figure";
import { currenciesOf, salesIn, spentOf } from "../../reports/usage";

/** Key figures of the range, compared with the same number of days before. */
export function KeyFigures({ overview }: { overview: Overview | undefined }) {
  return (
    <SimpleGrid cols={{ base: 2, md: 4 }} spacing="sm" aria-busy={overview === undefined}>
      {overview === undefined ? <FigureSkeletons count={8} /> : <Figures overview={overview} />}
    </SimpleGrid>
  );
}

function Figures({ overview: { period, previous } }: { overview: Overview }) {
  const counted: [string, number, number][] = [
    ["Active users", period.active_users, previous.active_users],
    ["New accounts", period.new_accounts, previous.new_accounts],
    ["Uses", period.uses, previous.uses],
    ["Credits spent", spentOf(period), spentOf(previous)],
    ["Credits sold", period.credits.sold, previous.credits.sold],
    ["Buyers", period.buyers, previous.buyers],
  ];
  return (
    <>
      {currenciesOf([period, previous]).map((currency) => {
        const [now, before] = [salesIn(period.sales, currency), salesIn(previous.sales, currency)];
        return (
          <Figure
            key={currency}
            name={`Net sales, ${currency}`}
            value={formatMoney(now.net_minor, currency)}
            growth={[now.net_minor, before.net_minor]}
            hint={`${formatCount(now.sales, "sale")}, minus refunds and disputes`}
          />
        );
      })}
      {period.revenue.map(({ currency, revenue_cents: cents }) => {
        if (cents === null) return null;
        const before = previous.revenue.find((one) => one.currency === currency)?.revenue_cents ?? "0";
        return (
          <Figure
            key={currency}
            name={`Revenue, ${currency}`}
            value={formatRoundedCents(cents, currency)}
            exact={formatCents(cents, currency)}
            growth={[cents, before]}
            hint={
              <>
                from spent credits:{" "}
                <Anchor component={Link} to={`/margins?currency=${currency}`} inherit underline="always">
                  View margins
                </Anchor>
              </>
            }
          />
        );
      })}
      {moneyCurrenciesOf([period, previous]).map((currency) => {
        const [now, before] = [moneyIn(period.money, currency), moneyIn(previous.money, currency)];
        return (
          <Figure
            key={`usage ${currency}`}
            name={`Usage charged, ${currency}`}
            value={formatRoundedAmount(now.cost, currency)}
            exact={formatAmount(now.cost, currency)}
            growth={[now.cost, before.cost]}
            hint={
              <>
                {formatCount(now.events, "event")}, margin {formatRoundedAmount(now.margin, currency)}:{" "}
                <Anchor component={Link} to="/usage" inherit underline="always">
                  View usage
                </Anchor>
              </>
            }
          />
        );
      })}
      {counted.map(([name, now, before]) => (
        <Figure key={name} name={name} value={formatNumber(now)} growth={[now, before]} />
      ))}
    </>
  );
}
