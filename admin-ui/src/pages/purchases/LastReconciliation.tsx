import { Alert, Anchor, Group, Loader, Text } from "@mantine/core";
import { IconAlertTriangle } from "@tabler/icons-react";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect, useRef } from "react";
import { Link } from "react-router";

import { api, bodyOf } from "../../api/client";
import type { Reconciliation } from "../../api/models";
import { AuditLink } from "../../components/AuditLink";
import { Timestamp } from "../../components/Timestamp";
import { isOld, isPending, reconciliationStatus } from "../../logic/purchases";

const EVERY_MS = 2_000;

/** Status of the last requested reconciliation of all purchases, shown until a day after it finished. */
export function LastReconciliation() {
  const queries = useQueryClient();
  const { data } = useQuery({
    queryKey: ["reconciliation"],
    queryFn: ({ signal }) => bodyOf(api.GET("/admin/purchases/reconcile", { signal })),
    refetchInterval: ({ state }) => (isPending(state.data ?? null) ? EVERY_MS : false),
  });
  const wasPending = useRef(false);
  const pending = isPending(data ?? null);
  useEffect(() => {
    // The run has ended: the list can contain its bookings.
    if (wasPending.current && !pending) void queries.invalidateQueries({ queryKey: ["purchases"] });
    wasPending.current = pending;
  }, [pending, queries]);
  return <div aria-live="polite">{data && !isOld(data) && <RunStatus run={data} />}</div>;
}

function RunStatus({ run }: { run: Reconciliation }) {
  const { title, text, tone } = reconciliationStatus(run);
  return (
    <Alert
      mb="lg"
      variant="outline"
      color={COLORS[tone]}
      title={title}
      icon={isPending(run) && tone !== "bad" ? <Loader size={18} aria-hidden /> : tone === "good" ? null : <IconAlertTriangle aria-hidden />}
    >
      <Text size="sm">{text}</Text>
      <Group gap={6} mt={4}>
        <Text size="xs" c="dimmed" component="span" style={{ overflowWrap: "anywhere" }}>
          Requested by {run.asked_by} <Timestamp at={run.asked_at} ago />
        </Text>
        <AuditLink size="xs" targetType="job" targetId={String(run.job_id)} />
        {tone === "bad" && (
          <Anchor component={Link} size="xs" underline="always" to="/system">
            System
          </Anchor>
        )}
      </Group>
    </Alert>
  );
}

const COLORS = { good: "teal", wait: "blue", warn: "orange", bad: "red" };
