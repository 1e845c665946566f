import { Alert, Button, Code, CopyButton, Group, Modal, Stack } from "@mantine/core";
import { IconAlertTriangle, IconCheck, IconCopy } from "@tabler/icons-react";

import type { NewApiKey } from "../../api/models";

/** Shows a new key once. It only closes by its button, so that the key is not lost by accident. */
export function NewKeyDialog({ created, onClose }: { created: NewApiKey; onClose: () => void }) {
  return (
    <Modal
      opened
      onClose={onClose}
      title="New API key"
      centered
      closeOnClickOutside={false}
      closeOnEscape={false}
      withCloseButton={false}
    >
      <Stack>
        <Alert color="orange" variant="outline" icon={<IconAlertTriangle aria-hidden />} title="Copy this key now">
          It is not stored and cannot be shown again. Anyone with this key can call the API.
        </Alert>
        <Code block style={{ overflowWrap: "anywhere", whiteSpace: "pre-wrap" }}>
          {created.api_key}
        </Code>
        <Group justify="flex-end" gap="xs">
          <CopyButton value={created.api_key} timeout={3000}>
            {({ copied, copy }) => (
              <Button
                onClick={copy}
                data-autofocus
                leftSection={copied ? <IconCheck size={16} aria-hidden /> : <IconCopy size={16} aria-hidden />}
              >
                {copied ? "Copied" : "Copy key"}
              </Button>
            )}
          </CopyButton>
          <Button variant="default" onClick={onClose}>
            Done
          </Button>
        </Group>
      </Stack>
    </Modal>
  );
}
