import { Group, Stack, Text } from "@mantine/core";

import type { Subscription } from "../../api/models";
import { SubscriptionTag } from "../../components/states";
import { Tag } from "../../components/Tag";
import { Timestamp } from "../../components/Timestamp";
import { paymentText } from "../../logic/subscriptions";

export function Status({ subscription: { status, cancel_at, ended_at, entitled } }: { subscription: Pick<Subscription, "status" | "cancel_at" | "ended_at" | "entitled"> }) {
  return (
    <Group gap={4}>
      <SubscriptionTag status={status} />
      {cancel_at !== null && ended_at === null && <Tag tone="warn">Will end</Tag>}
      {status === "past_due" && <Tag tone={entitled ? "info" : "bad"}>{entitled ? "In grace" : "Grace over"}</Tag>}
    </Group>
  );
}

export function NextPayment({ subscription: { next_payment } }: { subscription: Pick<Subscription, "next_payment"> }) {
  if (next_payment === null) return <Text span inherit c="dimmed">—</Text>;
  return (
    <Stack gap={0}>
      <Timestamp at={next_payment.at} />
      <Text size="xs" c="dimmed" className="numeric">
        {paymentText(next_payment)}
      </Text>
    </Stack>
  );
}
