import type { ReactNode } from "react";

import type { Subscription } from "../../api/models";
import { Tag } from "../../components/Tag";
import { Timestamp } from "../../components/Timestamp";
import { formatCount, humanize } from "../../logic/format";
import { paymentText, priceOf } from "../../logic/subscriptions";

/** The facts of a subscription that support and finance ask for. */
export function subscriptionFacts(one: Subscription): [string, ReactNode][] {
  return [
    ["Price", priceOf(one) ?? undefined],
    ["Plan in force", one.gives_plan === null ? <Tag key="gives" tone="quiet">Gives no plan</Tag> : humanize(one.gives_plan)],
    ["Terms kept since", one.terms_since === null ? undefined : <Timestamp key="terms" at={one.terms_since} />],
    [
      "Period",
      one.period_start === null ? undefined : (
        <span key="period">
          <Timestamp at={one.period_start} /> to <Timestamp at={one.period_end} />
        </span>
      ),
    ],
    [
      "Next payment",
      one.next_payment === null ? "None planned" : (
        <span key="next">
          <Timestamp at={one.next_payment.at} /> · {paymentText(one.next_payment)}
        </span>
      ),
    ],
    [
      "Unpaid since",
      one.past_due_since === null ? null : (
        <span key="unpaid">
          <Timestamp at={one.past_due_since} />
          {one.attempts !== null && ` · ${formatCount(one.attempts, "failed attempt")}`}
        </span>
      ),
    ],
    [
      "Grace period",
      one.grace_ends_at === null ? null : (
        <span key="grace">
          {one.entitled ? "Ends " : "Ended "}
          <Timestamp at={one.grace_ends_at} />
        </span>
      ),
    ],
    ["Ends at period end", one.cancel_at === null || one.ended_at !== null ? null : <Timestamp key="cancel" at={one.cancel_at} />],
    ["Started", <Timestamp key="started" at={one.started_at} />],
    ["Ended", one.ended_at === null ? null : <Timestamp key="ended" at={one.ended_at} />],
  ];
}
