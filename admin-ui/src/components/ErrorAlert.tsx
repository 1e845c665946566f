import { Alert, Button, Code, Group, Stack, Text } from "@mantine/core";
import { IconAlertTriangle } from "@tabler/icons-react";
import { useEffect, useRef } from "react";

import { ApiError, isStale, isTimeout } from "../api/errors";
import { CopyIcon } from "./Copyable";

/** An error message, with the request id for looking it up in the service's log. */
export function ErrorAlert({ error, onRetry }: { error: Error; onRetry?: () => void }) {
  const alert = useRef<HTMLDivElement>(null);
  useEffect(() => {
    // In a long form the alert can be outside the visible area.
    alert.current?.scrollIntoView({ block: "nearest" });
  }, [error]);
  const requestId = error instanceof ApiError ? error.requestId : null;
  const title = isTimeout(error) ? "Request timed out" : isStale(error) ? "Data has changed" : "Request failed";
  return (
    <Alert ref={alert} color="red" variant="outline" role="alert" icon={<IconAlertTriangle aria-hidden />} title={title}>
      <Stack gap="xs" align="flex-start">
        <Text size="sm">{error.message}</Text>
        {requestId !== null && (
          <Group gap={4} wrap="nowrap">
            <Text size="xs" c="dimmed">
              Request id
            </Text>
            <Code style={{ minWidth: 0, overflowWrap: "anywhere" }}>{requestId}</Code>
            <CopyIcon value={requestId} label="Copy the request id" />
          </Group>
        )}
        {onRetry && (
          <Button size="xs" variant="default" onClick={onRetry}>
            Try again
          </Button>
        )}
      </Stack>
    </Alert>
  );
}
