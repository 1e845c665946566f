import { Anchor } from "@mantine/core";
import { Link } from "react-router";

import type { User } from "../../api/models";
import { Copyable } from "../../components/Copyable";
import { Facts } from "../../components/Facts";
import { Section } from "../../components/Section";
import { Timestamp } from "../../components/Timestamp";
import { pathWith } from "../../logic/filters";
import { formatCount, formatCredits } from "../../logic/format";

export function Profile({ user }: { user: User }) {
  return (
    <>
      <Section
        title="Account"
        aside={
          <>
            <Anchor component={Link} size="sm" to={pathWith("/usage", { account_id: user.account_id, environment: testOf(user) })}>
              Usage
            </Anchor>
            <Anchor component={Link} size="sm" to={pathWith("/purchases", { account_id: user.account_id })}>
              Purchases
            </Anchor>
          </>
        }
      >
        <Facts
          facts={[
            ["Account id", <Copyable key="id" value={user.account_id} what="the account id" />],
            ["Identity provider", user.oauth_provider],
            ["External id", user.external_id && <Copyable value={user.external_id} what="the external id" />],
            ["E-mail", user.customer_email && <Copyable value={user.customer_email} what="the e-mail address" />],
            ["Name", user.display_name],
            ["Plan", user.plan_name],
            ["Currency", user.currency.toUpperCase()],
            ["Uses", `${formatCount(user.uses, "use")}, ${formatCredits(user.total_uses)} spent`],
            ["Created", <Timestamp key="created" at={user.created_at} />],
            ["Last activity", <Timestamp key="active" at={user.last_activity_at} ago />],
          ]}
        />
      </Section>
      <Section title="Consent and context">
        <Facts
          facts={[
            ["Marketing", marketing(user.marketing_opt_in)],
            ["Consent recorded", user.marketing_opt_in_at && <Timestamp at={user.marketing_opt_in_at} />],
            ["Consent source", user.marketing_opt_in_source],
            ["WebAgent", user.wa_id ?? undefined],
            ["Tenant", user.tenant_id ?? undefined],
            ["Role", user.user_role ?? undefined],
            ["Agent", user.agent_id ?? undefined],
          ]}
        />
      </Section>
    </>
  );
}

/** Reports are of the live environment unless the address names the other. */
function testOf({ environment }: User): string | null {
  return environment === "live" ? null : environment;
}

function marketing(optedIn: boolean | null): string {
  if (optedIn === null) return "Unknown: do not send marketing";
  return optedIn ? "Opted in" : "Opted out: do not send marketing";
}
