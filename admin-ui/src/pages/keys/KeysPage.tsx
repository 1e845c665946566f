import { ActionIcon, Box, Button, Group, Menu, Paper, Stack, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { IconDots, IconPlus } from "@tabler/icons-react";
import { useState } from "react";

import { api, bodyOf } from "../../api/client";
import type { ApiKey, NewApiKey } from "../../api/models";
import { useHasRole } from "../../api/session";
import { Copyable } from "../../components/Copyable";
import { type Column } from "../../components/DataTable";
import { EmptyState } from "../../components/EmptyState";
import { ExportButton } from "../../components/ExportButton";
import { ChoiceFilter, TextFilter, useFilters } from "../../components/Filters";
import { Page } from "../../components/Page";
import { QueryTable } from "../../components/QueryTable";
import { RoleButton } from "../../components/RoleButton";
import { EnvironmentTag, KeyTag } from "../../components/states";
import { Timestamp } from "../../components/Timestamp";
import { keysOf, oneOf } from "../../logic/filters";
import { keysThatMatch } from "../../logic/hits";
import { formatCount, formatNumber } from "../../logic/format";
import { ENVIRONMENTS } from "../users/labels";
import { EndDialog, type Ending } from "./EndDialog";
import { KeyDialog } from "./KeyDialog";
import { NewKeyDialog } from "./NewKeyDialog";
import { SHOWN, isUsable } from "./labels";

type Open = { dialog: "create" } | { dialog: "edit" | Ending; key: ApiKey } | { dialog: "created"; created: NewApiKey } | null;

export function KeysPage() {
  const { get, clear, filtered } = useFilters();
  const [open, setOpen] = useState<Open>(null);
  const environment = oneOf(get("environment"), keysOf(ENVIRONMENTS));
  const shown = oneOf(get("shown"), keysOf(SHOWN));
  const { data, error, refetch } = useQuery({
    queryKey: ["api-keys", environment],
    queryFn: ({ signal }) => bodyOf(api.GET("/admin/api-keys", { params: { query: { environment } }, signal })),
  });
  const search = get("search");
  const rows = keysThatMatch(search ?? "", data?.api_keys ?? []).filter((key) => shown === null || isUsable(key) === (shown === "active"));
  const columns: Column<ApiKey>[] = [
    ...COLUMNS,
    { name: "Actions", hiddenName: true, numeric: true, cell: (key) => <Actions apiKey={key} onChoose={(dialog) => setOpen({ dialog, key })} /> },
  ];
  const created = (key: NewApiKey) => setOpen({ dialog: "created", created: key });
  const close = () => setOpen(null);
  return (
    <Page
      title="API keys"
      subtitle="Keys with which agents and proxies call the API. A key is shown only once, when it is created."
      actions={
        <Group gap="sm">
          <ExportButton path="/admin/api-keys.csv" filters={{ environment }} />
          <RoleButton needs="admin" variant="filled" leftSection={<IconPlus size={16} aria-hidden />} onClick={() => setOpen({ dialog: "create" })}>
            Create key
          </RoleButton>
        </Group>
      }
    >
      <Paper withBorder p={{ base: "sm", sm: "md" }}>
        <Group component="search" gap="sm" align="flex-end" mb="sm">
          <TextFilter name="search" label="Search" placeholder="Name or public id" width={220} />
          <ChoiceFilter name="environment" label="Environment" choices={ENVIRONMENTS} />
          <ChoiceFilter name="shown" label="Status" choices={SHOWN} />
        </Group>
        <QueryTable
          error={error}
          onRetry={() => void refetch()}
          label="API keys"
          columns={columns}
          rows={data === undefined ? undefined : rows}
          rowKey={(key) => key.key_id}
          empty={
            <EmptyState title={filtered ? "No matching keys" : "No keys yet"}>
              {filtered ? (
                <Button variant="default" size="xs" mt="xs" onClick={clear}>
                  Show all keys
                </Button>
              ) : (
                "Create one key per agent, so that you can revoke each separately."
              )}
            </EmptyState>
          }
        />
      </Paper>
      {open?.dialog === "create" && <KeyDialog apiKey={null} onClose={close} onCreated={created} />}
      {open?.dialog === "edit" && <KeyDialog apiKey={open.key} onClose={close} onCreated={created} />}
      {(open?.dialog === "rotate" || open?.dialog === "revoke") && (
        <EndDialog ending={open.dialog} apiKey={open.key} graceS={data?.rotation_grace_s ?? 0} onClose={close} onCreated={created} />
      )}
      {open?.dialog === "created" && <NewKeyDialog created={open.created} onClose={close} />}
    </Page>
  );
}

const COLUMNS: Column<ApiKey>[] = [
  { name: "Key", cell: (key) => <KeyCell apiKey={key} /> },
  { name: "Status", cell: (key) => <Status apiKey={key} /> },
  { name: "Environment", cell: (key) => <EnvironmentTag environment={key.environment} />, from: "md" },
  { name: "Permissions", cell: (key) => key.permissions.map((name) => name.replace("billing:", "")).join(", "), from: "md" },
  { name: "Limits", cell: (key) => <Limits apiKey={key} />, from: "xl" },
  { name: "Requests", cell: (key) => formatNumber(key.requests_total), numeric: true, from: "sm" },
  { name: "Credits", cell: (key) => formatNumber(key.credits_charged), numeric: true, from: "sm" },
  { name: "Last used", cell: (key) => <Timestamp at={key.last_used_at} ago missing="Never" />, from: "sm" },
  { name: "Created", cell: (key) => <Timestamp at={key.created_at} />, from: "xl" },
];

function KeyCell({ apiKey }: { apiKey: ApiKey }) {
  return (
    <Stack gap={2} style={{ overflowWrap: "anywhere", minWidth: 110 }}>
      <Text span size="sm" fw={600}>
        {apiKey.name}
      </Text>
      <Box>
        <Copyable value={apiKey.key_id} what="the public id" />
      </Box>
    </Stack>
  );
}

function Status({ apiKey }: { apiKey: ApiKey }) {
  const end = apiKey.status === "rotated" ? apiKey.grace_ends_at : apiKey.status === "active" ? apiKey.expires_at : null;
  return (
    <Stack gap={2} align="flex-start">
      <KeyTag status={apiKey.status} />
      {end !== null && (
        <Text size="xs" c="dimmed" component="span">
          Expires <Timestamp at={end} ago />
        </Text>
      )}
    </Stack>
  );
}

function Limits({ apiKey }: { apiKey: ApiKey }) {
  const rate = apiKey.rate_limit_per_minute;
  const networks = apiKey.ip_allow_list.length;
  return (
    <Text size="xs" component="span" title={apiKey.ip_allow_list.join("\n")}>
      {rate === null ? "Default rate" : `${formatNumber(rate)}/minute`}
      <br />
      {apiKey.client_subject !== null && (
        <>
          Certificate {apiKey.client_subject}
          <br />
        </>
      )}
      {networks === 0 ? "Any network" : formatCount(networks, "network")}
    </Text>
  );
}

function Actions({ apiKey, onChoose }: { apiKey: ApiKey; onChoose: (dialog: "edit" | Ending) => void }) {
  const allowed = useHasRole("admin");
  if (!isUsable(apiKey)) return null;
  return (
    <Menu position="bottom-end">
      <Menu.Target>
        <ActionIcon variant="subtle" color="gray" aria-label={`Actions for ${apiKey.name}`}>
          <IconDots size={18} aria-hidden />
        </ActionIcon>
      </Menu.Target>
      <Menu.Dropdown>
        {!allowed && <Menu.Label>Changes require the admin role</Menu.Label>}
        <Menu.Item disabled={!allowed || apiKey.status !== "active"} onClick={() => onChoose("edit")}>
          Edit
        </Menu.Item>
        <Menu.Item disabled={!allowed || apiKey.status !== "active"} onClick={() => onChoose("rotate")}>
          Rotate
        </Menu.Item>
        <Menu.Item disabled={!allowed} color="var(--mantine-color-error)" onClick={() => onChoose("revoke")}>
          Revoke
        </Menu.Item>
      </Menu.Dropdown>
    </Menu>
  );
}
