import { SimpleGrid, TextInput } from "@mantine/core";

import { api, bodyOf } from "../../api/client";
import type { DefaultsDocument, DefaultsState } from "../../api/models";
import { defaultsDraft, FREE_USES, parseDefaults, unusualDefaults, type DefaultsDraft } from "../../logic/configuration";
import { NumberField } from "../../components/NumberField";
import { SectionEditor } from "./SectionEditor";
import type { FormProps, SectionForm } from "./section";

const FORM: SectionForm<DefaultsState, DefaultsDraft, DefaultsDocument> = {
  section: "defaults",
  consequences:
    "Applies to new accounts; existing accounts keep their free credits, plan and currency. Daily free credits apply to all accounts; an account that has already spent some today gets the new number tomorrow (UTC).",
  read: (signal) => bodyOf(api.GET("/admin/config/defaults", { signal })),
  documentOf,
  toDraft: defaultsDraft,
  parse: parseDefaults,
  unusualIn: unusualDefaults,
  fromVersion: (document) => documentOf(document as DefaultsDocument),
  save: (document, edit) => bodyOf(api.PUT("/admin/config/defaults", { body: { ...document, ...edit } })),
};

function documentOf({ free_uses, daily_free_uses, plan_name, currency }: DefaultsDocument): DefaultsDocument {
  return { free_uses, daily_free_uses, plan_name, currency };
}

export function DefaultsTab() {
  return <SectionEditor form={FORM}>{(props) => <DefaultsFields {...props} />}</SectionEditor>;
}

function DefaultsFields({ draft, set, errorOf, readOnly }: FormProps<DefaultsDraft>) {
  return (
    <SimpleGrid cols={{ base: 1, sm: 2 }} spacing="md" maw={720}>
      <NumberField
        {...FREE_USES}
        readOnly={readOnly}
        label="Free credits"
        description="Granted once to each new account"
        value={draft.freeUses}
        onChange={(freeUses) => set({ ...draft, freeUses })}
        error={errorOf("freeUses")}
      />
      <NumberField
        {...FREE_USES}
        readOnly={readOnly}
        label="Daily free credits"
        description="For every account, each UTC day"
        value={draft.dailyFreeUses}
        onChange={(dailyFreeUses) => set({ ...draft, dailyFreeUses })}
        error={errorOf("dailyFreeUses")}
      />
      <TextInput
        label="Plan"
        description="Plan name of new accounts"
        required
        readOnly={readOnly}
        maxLength={255}
        value={draft.planName}
        onChange={({ currentTarget }) => set({ ...draft, planName: currentTarget.value })}
        error={errorOf("planName")}
      />
      <TextInput
        label="Currency"
        description="Currency of new accounts"
        required
        readOnly={readOnly}
        maxLength={3}
        value={draft.currency}
        onChange={({ currentTarget }) => set({ ...draft, currency: currentTarget.value.toUpperCase() })}
        error={errorOf("currency")}
      />
    </SimpleGrid>
  );
}
