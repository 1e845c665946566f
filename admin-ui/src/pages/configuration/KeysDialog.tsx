import { Alert, Button, Group, PasswordInput, Stack, Text, TextInput } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";

import { api, bodyOf } from "../../api/client";
import { ApiError } from "../../api/errors";
import type { ProviderState } from "../../api/models";
import { ActionDialog } from "../../components/ActionDialog";
import { Diff } from "../../components/Diff";
import { reasonProblem, ReasonField } from "../../components/ReasonField";
import type { Facts } from "../../logic/diff";
import { LastChange } from "./State";
import { ConnectionTest } from "./ConnectionTest";

const LEAST = 8;

interface Props {
  /** The current state, which can be newer than when the dialog was opened. */
  provider: ProviderState;
  onClose: () => void;
  onDone: () => void;
}

/** New keys for an environment. Typed secrets only exist in this dialog, and are dropped when it closes. */
export function KeysDialog({ provider, onClose, onDone }: Props) {
  const queries = useQueryClient();
  const [base, setBase] = useState(provider);
  const [publishable, setPublishable] = useState("");
  const [secret, setSecret] = useState("");
  const [webhook, setWebhook] = useState("");
  const [reason, setReason] = useState("");
  const { environment } = provider;
  const conflicting = provider.version !== base.version;
  // Only keys that are stored here and can be decrypted can be kept.
  const keeps = provider.source === "admin" && provider.readable;
  const enough = (text: string) => text.length >= LEAST || (keeps && text === "");
  const check = useMutation({
    mutationFn: () =>
      bodyOf(
        api.POST("/admin/config/providers/{environment}/test", {
          params: { path: { environment } },
          body: { secret_key: secret },
        }),
      ),
  });
  const field = { autoComplete: "off", spellCheck: false, maxLength: 255 };
  const password = {
    ...field,
    autoComplete: "new-password",
    required: !keeps,
    description: keeps ? "Leave empty to keep the stored one" : undefined,
    visibilityToggleButtonProps: { "aria-label": "Show secret" },
  };
  return (
    <ActionDialog
      title={`New Stripe keys, ${environment}`}
      confirmLabel="Save keys"
      blocked={
        (conflicting ? "Another admin changed the keys: review the change above" : null) ??
        (publishable.length < LEAST ? "Enter the publishable key" : null) ??
        (enough(secret) ? null : "Enter the secret key") ??
        (enough(webhook) ? null : "Enter the webhook secret") ??
        reasonProblem(reason)
      }
      onClose={onClose}
      onDone={onDone}
      onFailed={(error) => {
        if (error instanceof ApiError && error.code === "configuration_changed") {
          void queries.invalidateQueries({ queryKey: ["configuration"] });
        }
      }}
      act={() =>
        bodyOf(
          api.PUT("/admin/config/providers/{environment}", {
            params: { path: { environment } },
            body: {
              version: base.version,
              reason: reason.trim(),
              publishable_key: publishable,
              secret_key: secret === "" ? null : secret,
              webhook_secret: webhook === "" ? null : webhook,
            },
          }),
        )
      }
      done={(state) => `Version ${state.version} takes effect in all processes within a second`}
    >
      {(problemOf) => (
        <>
          {conflicting && (
            <Alert color="orange" variant="outline" role="alert" title="Another admin changed the keys while you were editing">
              <Stack gap="xs" align="flex-start">
                <LastChange state={provider} />
                <Diff before={shownOf(base)} after={shownOf(provider)} />
                <Button size="xs" variant="default" onClick={() => setBase(provider)}>
                  Replace with my keys
                </Button>
              </Stack>
            </Alert>
          )}
          <TextInput
            label="Publishable key"
            placeholder={`pk_${environment}_…`}
            required
            data-autofocus
            {...field}
            value={publishable}
            error={problemOf("publishable_key")}
            onChange={({ currentTarget }) => setPublishable(currentTarget.value.trim())}
          />
          <PasswordInput
            label="Secret key"
            {...password}
            value={secret}
            error={problemOf("secret_key")}
            onChange={({ currentTarget }) => {
              setSecret(currentTarget.value.trim());
              check.reset();
            }}
          />
          <PasswordInput
            label="Webhook secret"
            {...password}
            value={webhook}
            error={problemOf("webhook_secret")}
            onChange={({ currentTarget }) => setWebhook(currentTarget.value.trim())}
          />
          {secret.length >= LEAST && (
            <Stack gap="xs">
              <Group>
                <Button size="xs" variant="default" loading={check.isPending} onClick={() => check.mutate()}>
                  Test secret key
                </Button>
              </Group>
              <ConnectionTest check={check} />
            </Stack>
          )}
          <Text size="sm">
            New payments in this environment go to the Stripe account of these keys. Open purchases were created with the
            current keys: if the new keys belong to another Stripe account, open purchases can no longer be paid.
          </Text>
          <ReasonField value={reason} onChange={setReason} error={problemOf("reason")} description="Recorded with the version and in the audit log. Do not enter secrets." />
        </>
      )}
    </ActionDialog>
  );
}

function shownOf({ publishable_key, secret_key_tail, webhook_secret_tail }: ProviderState): Facts {
  return { publishable_key, secret_key_tail, webhook_secret_tail };
}
