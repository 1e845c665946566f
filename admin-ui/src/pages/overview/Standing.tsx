import { Anchor, SimpleGrid } from "@mantine/core";
import type { ReactNode } from "react";
import { Link } from "react-router";

import type { Overview } from "../../api/models";
import { Section } from "../../components/Section";
import { formatShare } from "../../logic/decimals";
import { pathWith } from "../../logic/filters";
import { formatNumber } from "../../logic/format";
import { Figure } from "../../reports/Figure";

/** How things are now, whatever days were asked for. */
export function Standing({ overview: { now, environment } }: { overview: Overview }) {
  const users = (balance: string, text: string, status?: string) => (
    <Anchor component={Link} size="xs" underline="always" to={pathWith("/users", { balance, status, environment })}>
      {text}
    </Anchor>
  );
  const figures: [string, number, ReactNode][] = [
    ["Accounts", now.accounts, undefined],
    ["Paying users", now.paying_users, `${formatShare(now.paying_users, now.accounts) ?? "None"} of all accounts`],
    ["Exhausted users", now.exhausted_users, users("empty", "Who has nothing left", "active")],
    ["Paid credits not spent", now.paid_outstanding, users("paid", "Who has some")],
    ["Paid product uses not used", now.product_paid_outstanding, undefined],
    ["Debt in credits", now.debt, users("debt", "Who owes")],
  ];
  return (
    <Section title="As it is now">
      <SimpleGrid cols={{ base: 2, md: 3 }} spacing="sm">
        {figures.map(([name, value, hint]) => (
          <Figure key={name} name={name} value={formatNumber(value)} hint={hint} />
        ))}
      </SimpleGrid>
    </Section>
  );
}
