import { Alert, Group, Stack, Text } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { IconAlertTriangle } from "@tabler/icons-react";
import { useState } from "react";

import { api, bodyOf } from "../../api/client";
import type { ConfigSection, ProviderState } from "../../api/models";
import { Copyable } from "../../components/Copyable";
import { ErrorAlert } from "../../components/ErrorAlert";
import { Facts } from "../../components/Facts";
import { ListSkeleton } from "../../components/ListSkeleton";
import { RoleButton } from "../../components/RoleButton";
import { Section } from "../../components/Section";
import type { Facts as Changed } from "../../logic/diff";
import { ResetDialog } from "./ChangeDialog";
import { History } from "./History";
import { KeysDialog } from "./KeysDialog";
import { SourceTag, LastChange } from "./State";
import { ConnectionTest } from "./ConnectionTest";
import { SECTIONS } from "./labels";

const PROVIDERS = ["configuration", "providers"];

export function ProvidersTab() {
  const { data, error, refetch } = useQuery({
    queryKey: PROVIDERS,
    queryFn: ({ signal }) => bodyOf(api.GET("/admin/config/providers", { signal })),
  });
  if (error) return <ErrorAlert error={error} onRetry={() => void refetch()} />;
  if (data === undefined) return <ListSkeleton label="Loading payment providers" />;
  return (
    <Stack gap="lg">
      {!data.can_store && (
        <Alert color="orange" variant="outline" icon={<IconAlertTriangle aria-hidden />} title="Keys cannot be stored">
          The service has no encryption key. Set ENCRYPTION_KEYS (see the README) and restart the service. Until then, it
          only uses keys from its server settings.
        </Alert>
      )}
      <Section title="Webhook">
        <Text size="sm" mb="xs">
          Add this URL as a webhook endpoint in Stripe's dashboard, once in live and once in test mode. Each endpoint has its
          own webhook secret.
        </Text>
        <Copyable value={data.webhook_url} what="the webhook URL" />
      </Section>
      {data.providers.map((provider) => (
        <Provider key={provider.environment} provider={provider} canStore={data.can_store} />
      ))}
    </Stack>
  );
}

/** Return the keys in the form of a version's document. */
function keysOfProvider({ publishable_key, secret_key_tail, webhook_secret_tail }: ProviderState): Changed {
  return publishable_key === null ? {} : { publishable_key, secret_key_tail, webhook_secret_tail };
}

function Provider({ provider, canStore }: { provider: ProviderState; canStore: boolean }) {
  const queries = useQueryClient();
  const [open, setOpen] = useState<"keys" | "reset" | null>(null);
  const { environment } = provider;
  const section: ConfigSection = environment === "live" ? "provider_live" : "provider_test";
  const close = () => setOpen(null);
  const check = useMutation({
    mutationFn: () =>
      bodyOf(api.POST("/admin/config/providers/{environment}/test", { params: { path: { environment } }, body: {} })),
  });
  const hasKeys = provider.publishable_key !== null;
  return (
    <>
      <Section title={SECTIONS[section]} aside={<SourceTag state={provider} />}>
        <Stack gap="sm">
          <LastChange state={provider} />
          {!provider.readable && (
            <Alert color="red" variant="outline" role="alert" icon={<IconAlertTriangle aria-hidden />} title="Stored keys cannot be decrypted">
              Purchases in this environment are disabled. Restore the encryption key in ENCRYPTION_KEYS, or enter the Stripe
              keys again.
            </Alert>
          )}
          {hasKeys ? (
            <Facts
              facts={[
                ["Publishable key", <Copyable key="publishable" value={provider.publishable_key ?? ""} what="the publishable key" />],
                ["Secret key", provider.secret_key_tail],
                ["Webhook secret", provider.webhook_secret_tail],
              ]}
            />
          ) : (
            <Text size="sm">No keys: purchases in this environment are disabled.</Text>
          )}
          <Group gap="xs">
            {hasKeys && (
              <RoleButton needs="admin" loading={check.isPending} onClick={() => check.mutate()}>
                Test connection
              </RoleButton>
            )}
            {canStore && (
              <RoleButton needs="admin" onClick={() => setOpen("keys")}>
                Replace keys
              </RoleButton>
            )}
            {provider.source === "admin" && (
              <RoleButton needs="admin" onClick={() => setOpen("reset")}>
                Reset to server settings
              </RoleButton>
            )}
          </Group>
          <ConnectionTest check={check} />
        </Stack>
      </Section>
      <History section={section} current={provider.version} />
      {open === "keys" && <KeysDialog provider={provider} onClose={close} onDone={() => check.reset()} />}
      {open === "reset" && (
        <ResetDialog
          section={section}
          before={keysOfProvider(provider)}
          version={provider.version}
          onClose={close}
          onFailed={() => void queries.invalidateQueries({ queryKey: PROVIDERS })}
          onDone={() => check.reset()}
        />
      )}
    </>
  );
}
