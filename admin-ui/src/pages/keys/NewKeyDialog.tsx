import { Alert, Button, Code, CopyButton, Group, Modal, Stack } from "@mantine/core";
import { IconAlertTriangle, IconCheck, IconCopy } from "@tabler/icons-react";

import type { NewApiKey } from "../../api/models";

/** The one time that a key is seen: it closes by its button only. */
export function NewKeyDialog({ made, onClose }: { made: NewApiKey; onClose: () => void }) {
  return (
    <Modal
      opened
      onClose={onClose}
      title="The new key"
      centered
      closeOnClickOutside={false}
      closeOnEscape={false}
      withCloseButton={false}
    >
      <Stack>
        <Alert color="orange" variant="outline" icon={<IconAlertTriangle aria-hidden />} title="Copy it now">
          It is stored nowhere and cannot be shown again. Whoever has it can call the service.
        </Alert>
        <Code block style={{ overflowWrap: "anywhere", whiteSpace: "pre-wrap" }}>
          {made.api_key}
        </Code>
        <Group justify="flex-end" gap="xs">
          <CopyButton value={made.api_key} timeout={3000}>
            {({ copied, copy }) => (
              <Button
                onClick={copy}
                data-autofocus
                leftSection={copied ? <IconCheck size={16} aria-hidden /> : <IconCopy size={16} aria-hidden />}
              >
                {copied ? "Copied" : "Copy the key"}
              </Button>
            )}
          </CopyButton>
          <Button variant="default" onClick={onClose}>
            I have it
          </Button>
        </Group>
      </Stack>
    </Modal>
  );
}
