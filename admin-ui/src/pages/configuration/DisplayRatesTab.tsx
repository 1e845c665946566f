import { SimpleGrid, TextInput } from "@mantine/core";

import { api, bodyOf } from "../../api/client";
import type { DisplayRate, DisplayRatesState } from "../../api/models";
import { toLocalInput } from "../../logic/dates";
import { parseRates, rateRows, type RateRow, type RatesDocument } from "../../logic/displayRates";
import { RowList, type RowProps } from "./RowList";
import { SectionEditor } from "./SectionEditor";
import type { FormProps, SectionForm } from "./section";

const FORM: SectionForm<DisplayRatesState, RateRow[], RatesDocument> = {
  section: "display_rates",
  consequences:
    "Users see their money in the other currency by these rates, with the time and the source. Balances, prices and charges do not change.",
  read: (signal) => bodyOf(api.GET("/admin/config/display_rates", { signal })),
  documentOf: ({ rates }) => ({ rates }),
  toDraft: rateRows,
  parse: parseRates,
  unusualIn: () => null,
  fromVersion: ({ rates }) => ({ rates: rates as DisplayRate[] }),
  save: (document, edit) => bodyOf(api.PUT("/admin/config/display_rates", { body: { ...document, ...edit } })),
};

export function DisplayRatesTab() {
  return <SectionEditor form={FORM}>{(props) => <Rates {...props} />}</SectionEditor>;
}

function Rates(props: FormProps<RateRow[]>) {
  return (
    <RowList
      {...props}
      noun="rate"
      label="Display rates"
      about="Exchange rates that show a balance in another currency. No amount is converted with them."
      none="No display rates: balances are shown in the account's own currency."
      titleOf={({ base, quote }) => (quote === "" ? "" : `${base}/${quote}`)}
      fresh={() => ({ base: "USD", quote: "", rate: "", asOf: toLocalInput(new Date().toISOString()), stored: null, source: "" })}
      fields={RateFields}
    />
  );
}

function RateFields({ row, set, errorOf, readOnly }: RowProps<RateRow>) {
  const common = { required: true, readOnly };
  return (
    <SimpleGrid cols={{ base: 2, sm: 5 }} spacing="sm">
      <TextInput
        {...common}
        label="Currency"
        maxLength={3}
        value={row.base}
        onChange={({ currentTarget }) => set({ ...row, base: currentTarget.value.toUpperCase() })}
        error={errorOf("base")}
      />
      <TextInput
        {...common}
        label="Shown in"
        maxLength={3}
        value={row.quote}
        onChange={({ currentTarget }) => set({ ...row, quote: currentTarget.value.toUpperCase() })}
        error={errorOf("quote")}
      />
      <TextInput
        {...common}
        label="Rate"
        inputMode="decimal"
        maxLength={19}
        value={row.rate}
        onChange={({ currentTarget }) => set({ ...row, rate: currentTarget.value.trim() })}
        error={errorOf("rate")}
      />
      <TextInput
        {...common}
        label="Time of the rate"
        type="datetime-local"
        value={row.asOf}
        onChange={({ currentTarget }) => set({ ...row, asOf: currentTarget.value })}
        error={errorOf("asOf")}
      />
      <TextInput
        {...common}
        label="Source"
        maxLength={255}
        value={row.source}
        onChange={({ currentTarget }) => set({ ...row, source: currentTarget.value })}
        error={errorOf("source")}
      />
    </SimpleGrid>
  );
}
