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
import { WhoAndWhy } from "./State";
import { Tried } from "./Tried";

const LEAST = 8;

interface Props {
  /** As it is now, which may be newer than what the dialog was opened on. */
  provider: ProviderState;
  onClose: () => void;
  onDone: () => void;
}

/** New keys for an environment. What is typed lives in this dialog only, and goes with it. */
export function KeysDialog({ provider, onClose, onDone }: Props) {
  const queries = useQueryClient();
  const [base, setBase] = useState(provider);
  const [publishable, setPublishable] = useState("");
  const [secret, setSecret] = useState("");
  const [webhook, setWebhook] = useState("");
  const [reason, setReason] = useState("");
  const { environment } = provider;
  const overtaken = provider.version !== base.version;
  // Only what was stored here, and can be opened, can stay as it is.
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
    description: keeps ? "Empty: stays as it is stored" : undefined,
    visibilityToggleButtonProps: { "aria-label": "Show what is typed" },
  };
  return (
    <ActionDialog
      title={`New Stripe keys, ${environment}`}
      confirmLabel="Store the keys"
      blocked={
        (overtaken ? "Somebody changed the keys: decide about theirs above" : null) ??
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
      done={(state) => `Version ${state.version} counts, everywhere within a second`}
    >
      {(problemOf) => (
        <>
          {overtaken && (
            <Alert color="orange" variant="outline" role="alert" title="Somebody changed the keys meanwhile">
              <Stack gap="xs" align="flex-start">
                <WhoAndWhy state={provider} />
                <Diff before={shownOf(base)} after={shownOf(provider)} />
                <Button size="xs" variant="default" onClick={() => setBase(provider)}>
                  Replace theirs by mine
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
                  Test this secret key
                </Button>
              </Group>
              <Tried check={check} />
            </Stack>
          )}
          <Text size="sm">
            Payments of this environment go to this account of Stripe's from then on. A purchase that is open was begun with the
            keys of now: if these are of another account, it can no longer be paid.
          </Text>
          <ReasonField value={reason} onChange={setReason} error={problemOf("reason")} description="Kept with the version and in the audit log. No secrets here." />
        </>
      )}
    </ActionDialog>
  );
}

function shownOf({ publishable_key, secret_key_tail, webhook_secret_tail }: ProviderState): Facts {
  return { publishable_key, secret_key_tail, webhook_secret_tail };
}
