import { SimpleGrid, Stack, Textarea, TextInput } from "@mantine/core";

import { api, bodyOf } from "../../api/client";
import type { RefillsDocument, RefillsState } from "../../api/models";
import { NumberField } from "../../components/NumberField";
import {
  BACKOFF_S,
  COOLDOWN_S,
  parseRefills,
  REFILL_AMOUNTS,
  refillsDraft,
  type RefillAmount,
  type RefillsDraft,
} from "../../logic/refillBounds";
import { CurrencyField } from "./CurrencyField";
import { SectionEditor } from "./SectionEditor";
import type { FormProps, SectionForm } from "./section";

const FORM: SectionForm<RefillsState, RefillsDraft, RefillsDocument> = {
  section: "refills",
  consequences:
    "Applies to the next refill of each account. Settings of users that no longer fit start no refill until the users change them. Earlier consents keep their text.",
  read: (signal) => bodyOf(api.GET("/admin/config/refills", { signal })),
  documentOf,
  toDraft: refillsDraft,
  parse: parseRefills,
  unusualIn: () => null,
  fromVersion: (document) => documentOf(document as unknown as RefillsDocument),
  save: (document, edit) => bodyOf(api.PUT("/admin/config/refills", { body: { ...document, ...edit } })),
};

const LABELS: Record<RefillAmount, [string, string]> = {
  least_trigger: ["Least trigger", "A refill starts below the user's trigger"],
  least_amount: ["Least refill", "The lower bound of the amount of one refill"],
  most_amount: ["Largest refill", "The upper bound of the amount of one refill"],
  most_monthly: ["Monthly cap", "The most that an account's refills cost in a month"],
};

function documentOf(document: RefillsDocument): RefillsDocument {
  const { currency, least_trigger, least_amount, most_amount, most_monthly, cooldown_s, backoff_s, consent_text } = document;
  return { currency, least_trigger, least_amount, most_amount, most_monthly, cooldown_s, backoff_s, consent_text };
}

export function RefillsTab() {
  return <SectionEditor form={FORM}>{(props) => <Refills {...props} />}</SectionEditor>;
}

function Refills({ draft, set, errorOf, readOnly }: FormProps<RefillsDraft>) {
  return (
    <Stack gap="md" maw={720}>
      <CurrencyField
        description="Accounts in another currency cannot have refills"
        readOnly={readOnly}
        value={draft.currency}
        onChange={(currency) => set({ ...draft, currency })}
        error={errorOf("currency")}
      />
      <SimpleGrid cols={{ base: 1, sm: 2 }} spacing="md">
        {REFILL_AMOUNTS.map((name) => (
          <TextInput
            key={name}
            label={LABELS[name][0]}
            description={LABELS[name][1]}
            required
            readOnly={readOnly}
            inputMode="decimal"
            maxLength={20}
            value={draft[name]}
            onChange={({ currentTarget }) => set({ ...draft, [name]: currentTarget.value.trim() })}
            error={errorOf(name)}
          />
        ))}
        <NumberField
          {...COOLDOWN_S}
          label="Seconds between refills"
          description="The least time from one refill to the next"
          readOnly={readOnly}
          value={draft.cooldown}
          onChange={(cooldown) => set({ ...draft, cooldown })}
          error={errorOf("cooldown")}
        />
        <NumberField
          {...BACKOFF_S}
          label="Seconds after a decline"
          description="Doubles with each further decline in a row"
          readOnly={readOnly}
          value={draft.backoff}
          onChange={(backoff) => set({ ...draft, backoff })}
          error={errorOf("backoff")}
        />
      </SimpleGrid>
      <Textarea
        label="Consent"
        description="Users accept this text when they save a card"
        required
        readOnly={readOnly}
        autosize
        minRows={3}
        maxLength={2000}
        value={draft.consent}
        onChange={({ currentTarget }) => set({ ...draft, consent: currentTarget.value })}
        error={errorOf("consent")}
      />
    </Stack>
  );
}
