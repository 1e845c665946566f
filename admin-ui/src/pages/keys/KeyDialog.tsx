import { Checkbox, SegmentedControl, Select, Stack, TagsInput, Text, TextInput } from "@mantine/core";
import { useForm } from "@mantine/form";

import { api, bodyOf } from "../../api/client";
import type { ProblemOf } from "../../api/errors";
import type { ApiKey, ApiKeyBody, Environment, NewApiKey, Permission } from "../../api/models";
import { ActionDialog } from "../../components/ActionDialog";
import { NumberField } from "../../components/NumberField";
import { fromLocalInput, toLocalInput } from "../../logic/dates";
import { keysOf } from "../../logic/filters";
import { readWhole, type Bounds } from "../../logic/numbers";
import { ENVIRONMENTS } from "../users/labels";
import { DOUBLE_CHARGES, PERMISSIONS, type DoubleCharges } from "./labels";
import { hasUsage, UsageFields, usageBlockedBy, usageBodyFrom, usageValuesOf, type UsageValues } from "./UsageFields";

interface Values extends UsageValues {
  environment: Environment;
  name: string;
  permissions: Permission[];
  expires: string;
  networks: string[];
  subject: string;
  rate: string;
  doubles: DoubleCharges;
}

const RATE: Bounds = { least: 1, most: 2 ** 31 - 1, optional: true };

interface Props {
  /** The key to edit; null: create one. */
  apiKey: ApiKey | null;
  onClose: () => void;
  onCreated: (created: NewApiKey) => void;
}

export function KeyDialog({ apiKey, onClose, onCreated }: Props) {
  const form = useForm<Values>({ initialValues: valuesOf(apiKey) });
  const { values } = form;
  const common = {
    title: apiKey === null ? "Create API key" : `Edit ${apiKey.name}`,
    blocked: blockedBy(values),
    onClose,
  };
  const fields = (problemOf: ProblemOf) => <Fields form={form} fresh={apiKey === null} problemOf={problemOf} />;
  if (apiKey === null) {
    return (
      <ActionDialog
        {...common}
        confirmLabel="Create key"
        act={() => bodyOf(api.POST("/admin/api-keys", { body: newKeyFrom(values) }))}
        done={null}
        onDone={onCreated}
      >
        {fields}
      </ActionDialog>
    );
  }
  return (
    <ActionDialog
      {...common}
      confirmLabel="Save"
      act={() =>
        bodyOf(
          api.PATCH("/admin/api-keys/{key_id}", { params: { path: { key_id: apiKey.key_id } }, body: bodyFrom(values) }),
        )
      }
      done={(key) => `${key.name} changed: takes effect in all processes within a second`}
    >
      {fields}
    </ActionDialog>
  );
}

interface FieldsProps {
  form: ReturnType<typeof useForm<Values>>;
  fresh: boolean;
  problemOf: ProblemOf;
}

function Fields({ form, fresh, problemOf }: FieldsProps) {
  return (
    <>
      {fresh && (
        <SegmentedControl
          fullWidth
          aria-label="Environment"
          data={keysOf(ENVIRONMENTS).map((value) => ({ value, label: ENVIRONMENTS[value] }))}
          {...form.getInputProps("environment")}
        />
      )}
      <TextInput
        label="Name"
        description="Agent or service that uses the key"
        required
        maxLength={255}
        data-autofocus
        {...form.getInputProps("name")}
        error={problemOf("name")}
      />
      <Checkbox.Group label="Permissions" withAsterisk {...form.getInputProps("permissions")} error={problemOf("permissions")}>
        <Stack gap={8} mt={6}>
          {keysOf(PERMISSIONS).map((permission) => (
            <Checkbox key={permission} value={permission} label={PERMISSIONS[permission]} description={permission} />
          ))}
        </Stack>
      </Checkbox.Group>
      <TextInput
        label="Identity provider"
        description="Provider of the users that requests name by user_id, for example oauth:zero. Leave empty if requests name users by provider and external id"
        maxLength={255}
        {...form.getInputProps("provider")}
        error={problemOf("identity_provider")}
      />
      {hasUsage(form.values.permissions) && (
        <UsageFields form={form} fresh={fresh} permissions={form.values.permissions} problemOf={problemOf} />
      )}
      {form.values.permissions.includes("billing:write") && (
        <Select
          label="Probable double charges"
          description="Charges with the request id, description and amount of an earlier one, under another idempotency key"
          data={keysOf(DOUBLE_CHARGES).map((value) => ({ value, label: DOUBLE_CHARGES[value] }))}
          allowDeselect={false}
          {...form.getInputProps("doubles")}
          error={problemOf("double_charges")}
        />
      )}
      <TextInput
        label="Expires"
        description="In your time zone. Leave empty for a key that never expires"
        type="datetime-local"
        {...form.getInputProps("expires")}
        error={problemOf("expires_at")}
      />
      <TagsInput
        label="Allowed networks"
        description="IP addresses or networks such as 203.0.113.0/24; press Enter to add. Leave empty to allow all"
        splitChars={[",", " "]}
        {...form.getInputProps("networks")}
        error={problemOf("ip_allow_list")}
      />
      <TextInput
        label="Client certificate subject"
        description="For example CN=agent-7,O=Example. Leave empty to require no certificate"
        maxLength={512}
        {...form.getInputProps("subject")}
        error={problemOf("client_subject")}
      />
      <NumberField
        {...RATE}
        label="Requests per minute"
        description="Leave empty for the default"
        value={form.values.rate}
        onChange={(text) => form.setFieldValue("rate", text)}
        error={problemOf("rate_limit_per_minute")}
      />
      {!fresh && (
        <Text size="sm" c="dimmed">
          Changes take effect in all processes within a second. An expiry in the past ends the key.
        </Text>
      )}
    </>
  );
}

function valuesOf(key: ApiKey | null): Values {
  return {
    environment: key?.environment ?? "live",
    name: key?.name ?? "",
    permissions: key?.permissions ?? ["billing:read", "billing:write"],
    expires: key?.expires_at ? toLocalInput(key.expires_at) : "",
    networks: key?.ip_allow_list ?? [],
    subject: key?.client_subject ?? "",
    rate: String(key?.rate_limit_per_minute ?? ""),
    doubles: key?.double_charges ?? "ignore",
    ...usageValuesOf(key),
  };
}

function blockedBy({ name, permissions, rate, ...usage }: Values): string | null {
  if (name.trim() === "") return "Enter a name";
  if (permissions.length === 0) return "Choose at least one permission";
  const usageProblem = hasUsage(permissions) ? usageBlockedBy(usage, permissions) : null;
  if (usageProblem !== null) return usageProblem;
  const { problem } = readWhole(rate, RATE);
  return problem === null ? null : `Correct the requests per minute: ${problem.toLowerCase()}`;
}

function newKeyFrom(values: Values): ApiKeyBody {
  const source = hasUsage(values.permissions) ? values.source.trim() : "";
  return { ...bodyFrom(values), environment: values.environment, event_source: source || null };
}

function bodyFrom(values: Values): Omit<ApiKeyBody, "environment" | "event_source"> {
  return {
    name: values.name.trim(),
    permissions: values.permissions,
    expires_at: fromLocalInput(values.expires),
    ip_allow_list: values.networks,
    client_subject: values.subject.trim() || null,
    rate_limit_per_minute: readWhole(values.rate, RATE).value,
    double_charges: values.doubles,
    ...usageBodyFrom(values, values.permissions),
  };
}
