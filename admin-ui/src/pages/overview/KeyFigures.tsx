import { SimpleGrid } from "@mantine/core";

import type { Overview } from "../../api/models";
import { formatCount, formatMoney, formatNumber } from "../../logic/format";
import { Figure, FigureSkeletons } from "../../reports/Figure";
import { currenciesOf, revenueIn, spentOf } from "../../reports/usage";

/** The range's figures, beside those of as many days before. */
export function KeyFigures({ overview }: { overview: Overview | undefined }) {
  return (
    <SimpleGrid cols={{ base: 2, md: 4 }} spacing="sm" aria-busy={overview === undefined}>
      {overview === undefined ? <FigureSkeletons count={7} /> : <Figures overview={overview} />}
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
        const [now, before] = [revenueIn(period.revenue, currency), revenueIn(previous.revenue, currency)];
        return (
          <Figure
            key={currency}
            name={`Revenue, ${currency}`}
            value={formatMoney(now.net_minor, currency)}
            growth={[now.net_minor, before.net_minor]}
            hint={formatCount(now.sales, "sale")}
          />
        );
      })}
      {counted.map(([name, now, before]) => (
        <Figure key={name} name={name} value={formatNumber(now)} growth={[now, before]} />
      ))}
    </>
  );
}
