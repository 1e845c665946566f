import { Alert, Anchor, Group, Loader, Text } from "@mantine/core";
import { IconAlertTriangle } from "@tabler/icons-react";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect, useRef } from "react";
import { Link } from "react-router";

import { api, bodyOf } from "../../api/client";
import type { Reconciliation } from "../../api/models";
import { Timestamp } from "../../components/Timestamp";
import { pathWith } from "../../logic/filters";
import { isOld, isUnderWay, reconciliationStatus } from "../../logic/purchases";

const EVERY_MS = 2_000;

/** Where the reconciliation of everything stands that somebody asked for last, until a day after its end. */
export function LastReconciliation() {
  const queries = useQueryClient();
  const { data } = useQuery({
    queryKey: ["reconciliation"],
    queryFn: ({ signal }) => bodyOf(api.GET("/admin/purchases/reconcile", { signal })),
    refetchInterval: ({ state }) => (isUnderWay(state.data ?? null) ? EVERY_MS : false),
  });
  const waited = useRef(false);
  const underWay = isUnderWay(data ?? null);
  useEffect(() => {
    // What it booked is in the list now.
    if (waited.current && !underWay) void queries.invalidateQueries({ queryKey: ["purchases"] });
    waited.current = underWay;
  }, [underWay, queries]);
  return <div aria-live="polite">{data && !isOld(data) && <Told run={data} />}</div>;
}

function Told({ run }: { run: Reconciliation }) {
  const { title, text, tone } = reconciliationStatus(run);
  const log = pathWith("/audit", { target_type: "job", target_id: String(run.job_id) });
  return (
    <Alert
      mb="lg"
      variant="outline"
      color={COLORS[tone]}
      title={title}
      icon={isUnderWay(run) && tone !== "bad" ? <Loader size={18} aria-hidden /> : tone === "good" ? null : <IconAlertTriangle aria-hidden />}
    >
      <Text size="sm">{text}</Text>
      <Group gap={6} mt={4}>
        <Text size="xs" c="dimmed" component="span" style={{ overflowWrap: "anywhere" }}>
          Asked for by {run.asked_by} <Timestamp at={run.asked_at} ago />
        </Text>
        <Anchor component={Link} size="xs" underline="always" to={log}>
          Audit log
        </Anchor>
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
