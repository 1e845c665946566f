import { Anchor, SimpleGrid } from "@mantine/core";
import type { ReactNode } from "react";
import { Link } from "react-router";

import type { Overview } from "../../api/models";
import { Section } from "../../components/Section";
import { formatAmount, formatRoundedAmount, formatShare } from "../../logic/decimals";
import { pathWith } from "../../logic/filters";
import { formatNumber } from "../../logic/format";
import { Figure } from "../../reports/Figure";

/** Current totals, independent of the chosen range. */
export function CurrentTotals({ overview: { now, environment } }: { overview: Overview }) {
  const users = (balance: string, text: string, status?: string) => (
    <Anchor component={Link} size="xs" underline="always" to={pathWith("/users", { balance, status, environment })}>
      {text}
    </Anchor>
  );
  const figures: [string, number, ReactNode][] = [
    ["Accounts", now.accounts, undefined],
    ["Paying users", now.paying_users, `${formatShare(now.paying_users, now.accounts) ?? "None"} of all accounts`],
    ["Users without credits", now.exhausted_users, users("empty", "View users without credits", "active")],
    ["Unspent paid credits", now.paid_outstanding, users("paid", "View users with paid credits")],
    ["Credits in grants", now.grants_outstanding, undefined],
    ["Unused paid product uses", now.product_paid_outstanding, undefined],
    ["Debt (credits)", now.debt, users("debt", "View users in debt")],
  ];
  return (
    <Section title="Current totals">
      <SimpleGrid cols={{ base: 2, md: 3 }} spacing="sm">
        {figures.map(([name, value, hint]) => (
          <Figure key={name} name={name} value={formatNumber(value)} hint={hint} />
        ))}
        {now.money.map(({ currency, balance, grants, debt }) => (
          <Figure
            key={currency}
            name={`Unspent money, ${currency}`}
            value={formatRoundedAmount(balance, currency)}
            exact={formatAmount(balance, currency)}
            hint={`and ${formatRoundedAmount(grants, currency)} in grants; debt ${formatRoundedAmount(debt, currency)}`}
          />
        ))}
      </SimpleGrid>
    </Section>
  );
}
