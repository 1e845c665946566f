import { Alert, Button, Code, Group, Stack, Text } from "@mantine/core";
import { IconAlertTriangle } from "@tabler/icons-react";
import { useEffect, useRef } from "react";

import { ApiError, isStale, isUnanswered } from "../api/errors";
import { CopyIcon } from "./Copyable";

/** What went wrong in the server's words, with the id under which its log tells more. */
export function ErrorAlert({ error, onRetry }: { error: Error; onRetry?: () => void }) {
  const alert = useRef<HTMLDivElement>(null);
  useEffect(() => {
    // In a long form it may stand below what is in sight.
    alert.current?.scrollIntoView({ block: "nearest" });
  }, [error]);
  const requestId = error instanceof ApiError ? error.requestId : null;
  const title = isUnanswered(error) ? "No answer came" : isStale(error) ? "This has changed" : "That did not work";
  return (
    <Alert ref={alert} color="red" variant="outline" role="alert" icon={<IconAlertTriangle aria-hidden />} title={title}>
      <Stack gap="xs" align="flex-start">
        <Text size="sm">{error.message}</Text>
        {requestId !== null && (
          <Group gap={4} wrap="nowrap">
            <Text size="xs" c="dimmed">
              Request
            </Text>
            <Code style={{ minWidth: 0, overflowWrap: "anywhere" }}>{requestId}</Code>
            <CopyIcon value={requestId} label="Copy the request's id" />
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
