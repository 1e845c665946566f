import { Checkbox, SegmentedControl, Stack, TagsInput, Text, TextInput } from "@mantine/core";
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
import { PERMISSIONS } from "./labels";

interface Values {
  environment: Environment;
  name: string;
  permissions: Permission[];
  expires: string;
  networks: string[];
  subject: string;
  rate: string;
}

const RATE: Bounds = { least: 1, most: 2 ** 31 - 1, optional: true };

interface Props {
  /** The key to change; null: make one. */
  apiKey: ApiKey | null;
  onClose: () => void;
  onMade: (made: NewApiKey) => void;
}

export function KeyDialog({ apiKey, onClose, onMade }: Props) {
  const form = useForm<Values>({ initialValues: valuesOf(apiKey) });
  const { values } = form;
  const common = {
    title: apiKey === null ? "Create an API key" : `Edit ${apiKey.name}`,
    blocked: blockedBy(values),
    onClose,
  };
  const fields = (problemOf: ProblemOf) => <Fields form={form} fresh={apiKey === null} problemOf={problemOf} />;
  if (apiKey === null) {
    return (
      <ActionDialog
        {...common}
        confirmLabel="Create the key"
        act={() => bodyOf(api.POST("/admin/api-keys", { body: { ...bodyFrom(values), environment: values.environment } }))}
        done={null}
        onDone={onMade}
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
      done={(key) => `${key.name} is changed, everywhere within a second`}
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
        description="Which agent or service calls with it"
        required
        maxLength={255}
        data-autofocus
        {...form.getInputProps("name")}
        error={problemOf("name")}
      />
      <Checkbox.Group label="It may" withAsterisk {...form.getInputProps("permissions")} error={problemOf("permissions")}>
        <Stack gap={8} mt={6}>
          {keysOf(PERMISSIONS).map((permission) => (
            <Checkbox key={permission} value={permission} label={PERMISSIONS[permission]} description={permission} />
          ))}
        </Stack>
      </Checkbox.Group>
      <TextInput
        label="Expires"
        description="In your time. Empty: never"
        type="datetime-local"
        {...form.getInputProps("expires")}
        error={problemOf("expires_at")}
      />
      <TagsInput
        label="Only from"
        description="IP addresses or networks such as 203.0.113.0/24; Enter adds one. Empty: from anywhere"
        splitChars={[",", " "]}
        {...form.getInputProps("networks")}
        error={problemOf("ip_allow_list")}
      />
      <TextInput
        label="Only with the client certificate"
        description="Its subject, such as CN=agent-7,O=Example. Empty: none is needed"
        maxLength={512}
        {...form.getInputProps("subject")}
        error={problemOf("client_subject")}
      />
      <NumberField
        {...RATE}
        label="Requests a minute"
        description="Empty: as usual"
        value={form.values.rate}
        onChange={(text) => form.setFieldValue("rate", text)}
        error={problemOf("rate_limit_per_minute")}
      />
      {!fresh && (
        <Text size="sm" c="dimmed">
          The change holds everywhere within a second. An expiry that has passed ends the key.
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
  };
}

function blockedBy({ name, permissions, rate }: Values): string | null {
  if (name.trim() === "") return "Give the key a name";
  if (permissions.length === 0) return "Choose what the key may do";
  const { problem } = readWhole(rate, RATE);
  return problem === null ? null : `Put right the requests a minute: ${problem.toLowerCase()}`;
}

function bodyFrom(values: Values): Omit<ApiKeyBody, "environment"> {
  return {
    name: values.name.trim(),
    permissions: values.permissions,
    expires_at: fromLocalInput(values.expires),
    ip_allow_list: values.networks,
    client_subject: values.subject.trim() || null,
    rate_limit_per_minute: readWhole(values.rate, RATE).value,
  };
}
