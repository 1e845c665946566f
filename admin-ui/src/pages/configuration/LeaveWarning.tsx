import { Button, Group, Modal, Stack, Text } from "@mantine/core";
import { useEffect } from "react";
import { useBlocker } from "react-router";

/** Asks before what was typed is lost: by a link, by another tab of the page, by closing the window. */
export function LeaveWarning({ when }: { when: boolean }) {
  const blocker = useBlocker(
    ({ currentLocation: from, nextLocation: to }) => when && (from.pathname !== to.pathname || from.search !== to.search),
  );
  useEffect(() => {
    if (!when) return;
    const ask = (event: BeforeUnloadEvent) => event.preventDefault();
    window.addEventListener("beforeunload", ask);
    return () => window.removeEventListener("beforeunload", ask);
  }, [when]);
  if (blocker.state !== "blocked") return null;
  return (
    <Modal opened onClose={() => blocker.reset()} title="Leave without saving?" centered closeButtonProps={{ "aria-label": "Close" }}>
      <Stack>
        <Text size="sm">What you changed here is not saved, and would be lost.</Text>
        <Group justify="flex-end" gap="xs">
          <Button variant="default" onClick={() => blocker.reset()}>
            Stay
          </Button>
          <Button color="red.8" onClick={() => blocker.proceed()}>
            Leave
          </Button>
        </Group>
      </Stack>
    </Modal>
  );
}
