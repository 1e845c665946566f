import { Alert, Anchor, Stack } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { IconAlertTriangle, IconChecks } from "@tabler/icons-react";
import { Link } from "react-router";

import { api, bodyOf } from "../../api/client";
import { useOpenAlerts } from "../../api/openAlerts";
import { ErrorAlert } from "../../components/ErrorAlert";
import { needsOf } from "./needsAttention";

const EVERY_MS = 30_000;

/** Problems that need an admin, or a note that there are none. */
export function Attention() {
  const { data, error, refetch } = useQuery({
    queryKey: ["system"],
    queryFn: ({ signal }) => bodyOf(api.GET("/admin/system", { signal })),
    refetchInterval: EVERY_MS,
  });
  const alerts = useOpenAlerts();
  if (error) return <ErrorAlert error={error} onRetry={() => void refetch()} />;
  if (alerts.error) return <ErrorAlert error={alerts.error} onRetry={() => void alerts.refetch()} />;
  if (data === undefined || alerts.data === undefined) return null;
  const needs = needsOf(data, alerts.data);
  if (needs.length === 0) {
    return (
      <Alert color="teal" variant="outline" py="xs" icon={<IconChecks aria-hidden />} title="All clear">
        All payments are credited, no job has failed, no alert is open, and the ledger{" "}
        {data.ledger === null ? "has not been verified yet" : "is balanced"}.
      </Alert>
    );
  }
  return (
    <Alert color="red" variant="outline" icon={<IconAlertTriangle aria-hidden />} title="Needs attention">
      <Stack gap={4} align="flex-start">
        {needs.map(({ text, to }) => (
          <Anchor key={text} component={Link} to={to} size="sm" underline="always">
            {text}
          </Anchor>
        ))}
      </Stack>
    </Alert>
  );
}
