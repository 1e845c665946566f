import { SimpleGrid, Stack, TextInput } from "@mantine/core";

import { api, bodyOf } from "../../api/client";
import type { BurnRateDocument, BurnRateState } from "../../api/models";
import { NumberField } from "../../components/NumberField";
import { burnRateDraft, CREDITS_PER_MINUTE, parseBurnRate, type BurnRateDraft, type MoneyRow } from "../../logic/burnRate";
import { RowList, type RowProps } from "./RowList";
import { SectionEditor } from "./SectionEditor";
import type { FormProps, SectionForm } from "./section";

const FORM: SectionForm<BurnRateState, BurnRateDraft, BurnRateDocument> = {
  section: "burn_rate",
  consequences:
    "A run, or an account's use of an API key, that would spend more in a minute is refused and paused until an admin resumes it. Without amounts, the brake is off, and pauses of keys end.",
  read: (signal) => bodyOf(api.GET("/admin/config/burn_rate", { signal })),
  documentOf,
  toDraft: burnRateDraft,
  parse: parseBurnRate,
  unusualIn: () => null,
  fromVersion: (document) => documentOf(document as unknown as BurnRateDocument),
  save: (document, edit) => bodyOf(api.PUT("/admin/config/burn_rate", { body: { ...document, ...edit } })),
};

function documentOf({ credits_per_minute, money_per_minute }: BurnRateDocument): BurnRateDocument {
  return { credits_per_minute, money_per_minute };
}

export function BurnRateTab() {
  return <SectionEditor form={FORM}>{(props) => <BurnRate {...props} />}</SectionEditor>;
}

function BurnRate({ draft, set, errorOf, readOnly }: FormProps<BurnRateDraft>) {
  return (
    <Stack gap="md" maw={720}>
      <NumberField
        {...CREDITS_PER_MINUTE}
        readOnly={readOnly}
        label="Credits per minute"
        description="Empty: any number"
        value={draft.credits}
        onChange={(credits) => set({ ...draft, credits })}
        error={errorOf("credits")}
      />
      <RowList
        draft={draft.money}
        set={(money) => set({ ...draft, money })}
        errorOf={errorOf}
        readOnly={readOnly}
        noun="amount"
        label="Money per minute"
        about="Money per minute, by currency. A currency without an amount is not bounded."
        none="No amounts of money."
        titleOf={({ currency }) => currency}
        fresh={() => ({ currency: "", amount: "" })}
        fields={MoneyFields}
      />
    </Stack>
  );
}

function MoneyFields({ row, set, errorOf, readOnly }: RowProps<MoneyRow>) {
  return (
    <SimpleGrid cols={2} spacing="sm">
      <TextInput
        required
        readOnly={readOnly}
        label="Currency"
        maxLength={3}
        value={row.currency}
        onChange={({ currentTarget }) => set({ ...row, currency: currentTarget.value.toUpperCase() })}
        error={errorOf("currency")}
      />
      <TextInput
        required
        readOnly={readOnly}
        label="Amount per minute"
        inputMode="decimal"
        maxLength={19}
        value={row.amount}
        onChange={({ currentTarget }) => set({ ...row, amount: currentTarget.value.trim() })}
        error={errorOf("amount")}
      />
    </SimpleGrid>
  );
}
