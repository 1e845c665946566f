import { SimpleGrid, Stack, TextInput } from "@mantine/core";

import { api, bodyOf } from "../../api/client";
import type { OneTimeGrantsDocument, OneTimeGrantsState } from "../../api/models";
import { NumberField } from "../../components/NumberField";
import { GRANT_DAYS, GRANT_KINDS, oneTimeDraft, parseOneTime, type GrantKind, type OneTimeDraft } from "../../logic/oneTimeGrants";
import { CurrencyField } from "./CurrencyField";
import { SectionEditor } from "./SectionEditor";
import type { FormProps, SectionForm } from "./section";

const FORM: SectionForm<OneTimeGrantsState, OneTimeDraft, OneTimeGrantsDocument> = {
  section: "one_time_grants",
  consequences: "Applies to grants from now on. Earlier grants do not change, and no account gets one a second time.",
  read: (signal) => bodyOf(api.GET("/admin/config/one_time_grants", { signal })),
  documentOf,
  toDraft: oneTimeDraft,
  parse: parseOneTime,
  unusualIn: () => null,
  fromVersion: (document) => documentOf(document as unknown as OneTimeGrantsDocument),
  save: (document, edit) => bodyOf(api.PUT("/admin/config/one_time_grants", { body: { ...document, ...edit } })),
};

const LABELS: Record<GrantKind, string> = {
  signup: "Sign-up",
  daily: "Each day",
  referral_inviter: "Referral, inviter",
  referral_invitee: "Referral, invited user",
};

function documentOf({ currency, signup, daily, referral_inviter, referral_invitee }: OneTimeGrantsDocument): OneTimeGrantsDocument {
  return { currency, signup, daily, referral_inviter, referral_invitee };
}

export function OneTimeGrantsTab() {
  return <SectionEditor form={FORM}>{(props) => <Grants {...props} />}</SectionEditor>;
}

function Grants({ draft, set, errorOf, readOnly }: FormProps<OneTimeDraft>) {
  return (
    <Stack gap="md" maw={720}>
      <CurrencyField
        description="Accounts in another currency get none of these grants"
        readOnly={readOnly}
        value={draft.currency}
        onChange={(currency) => set({ ...draft, currency })}
        error={errorOf("currency")}
      />
      {GRANT_KINDS.map((kind) => (
        <SimpleGrid key={kind} cols={{ base: 1, sm: 2 }} spacing="md">
          <TextInput
            label={LABELS[kind]}
            description="Amount; 0 is off"
            required
            readOnly={readOnly}
            inputMode="decimal"
            maxLength={20}
            value={draft[kind].amount}
            onChange={({ currentTarget }) => set({ ...draft, [kind]: { ...draft[kind], amount: currentTarget.value.trim() } })}
            error={errorOf(`${kind}.amount`)}
          />
          <NumberField
            {...GRANT_DAYS}
            label={`Days to expiry: ${LABELS[kind].toLowerCase()}`}
            description="Empty: no expiry"
            readOnly={readOnly}
            value={draft[kind].days}
            onChange={(days) => set({ ...draft, [kind]: { ...draft[kind], days } })}
            error={errorOf(`${kind}.days`)}
          />
        </SimpleGrid>
      ))}
    </Stack>
  );
}
