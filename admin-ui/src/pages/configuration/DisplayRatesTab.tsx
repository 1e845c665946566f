import { SimpleGrid, Stack, Text, TextInput } from "@mantine/core";
import { IconPlus } from "@tabler/icons-react";

import { api, bodyOf } from "../../api/client";
import type { DisplayRate, DisplayRatesState } from "../../api/models";
import { RoleButton } from "../../components/RoleButton";
import { toLocalInput } from "../../logic/dates";
import { parseRates, rateRows, type RateRow, type RatesDocument } from "../../logic/displayRates";
import { RowFrame } from "./RowFrame";
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

function Rates({ draft: rows, set, errorOf, readOnly }: FormProps<RateRow[]>) {
  const add = () => {
    const id = Math.max(-1, ...rows.map((row) => row.id)) + 1;
    const asOf = toLocalInput(new Date().toISOString());
    set([...rows, { id, base: "USD", quote: "", rate: "", asOf, stored: null, source: "" }]);
  };
  return (
    <Stack gap="sm" align="flex-start">
      <Text size="sm">Exchange rates that show a balance in another currency. No amount is converted with them.</Text>
      {rows.length === 0 && (
        <Text size="sm" c="dimmed">
          No display rates: balances are shown in the account's own currency.
        </Text>
      )}
      <Stack component="ul" gap="sm" p={0} m={0} w="100%" aria-label="Display rates">
        {rows.map((row, index) => (
          <RowFrame
            key={row.id}
            title={row.quote === "" ? "New rate" : `${row.base}/${row.quote}`}
            readOnly={readOnly}
            onRemove={() => set(rows.filter(({ id }) => id !== row.id))}
          >
            <RateFields
              row={row}
              set={(next) => set(rows.with(index, next))}
              errorOf={(name) => errorOf(`${index}.${name}`)}
              readOnly={readOnly}
            />
          </RowFrame>
        ))}
      </Stack>
      <RoleButton needs="admin" size="xs" leftSection={<IconPlus size={14} aria-hidden />} onClick={add}>
        Add rate
      </RoleButton>
    </Stack>
  );
}

interface RowProps extends Omit<FormProps<RateRow>, "draft"> {
  row: RateRow;
}

function RateFields({ row, set, errorOf, readOnly }: RowProps) {
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
