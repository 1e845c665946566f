import { SimpleGrid, Text, TextInput } from "@mantine/core";

import { api, bodyOf } from "../../api/client";
import type { PackDocument, PacksState } from "../../api/models";
import { NumberField } from "../../components/NumberField";
import { Tag } from "../../components/Tag";
import { PACK_CREDITS, packRows, packSentence, parsePacks, unusualPacks, type PackRow } from "../../logic/configuration";
import { RowList, type RowProps } from "./RowList";
import { SectionEditor } from "./SectionEditor";
import type { FormProps, SectionForm } from "./section";

const FORM: SectionForm<PacksState, PackRow[], { packs: PackDocument[] }> = {
  section: "packs",
  consequences:
    "Open purchases keep their price; later purchases use the new prices. Purchases that name a removed pack are rejected.",
  read: (signal) => bodyOf(api.GET("/admin/config/packs", { signal })),
  documentOf: ({ packs }) => ({ packs }),
  toDraft: ({ packs }) => packRows(packs),
  parse: parsePacks,
  unusualIn: unusualPacks,
  fromVersion: ({ packs }) => ({ packs: packs as PackDocument[] }),
  save: (document, edit) => bodyOf(api.PUT("/admin/config/packs", { body: { ...document, ...edit } })),
};

export function PacksTab() {
  return <SectionEditor form={FORM}>{(props) => <Packs {...props} />}</SectionEditor>;
}

function Packs(props: FormProps<PackRow[]>) {
  return (
    <RowList
      {...props}
      noun="pack"
      label="Price packs, default first"
      about="Purchases without a pack name use the first pack in the account's currency."
      ordered
      titleOf={({ name }) => name}
      markOf={(rows, index) => isDefault(rows, index) && <Tag tone="info">{`Default for ${rows[index]?.currency}`}</Tag>}
      fresh={(rows) => ({ name: "", price: "", currency: rows[0]?.currency ?? "USD", credits: "" })}
      fields={PackFields}
    />
  );
}

/** Whether a pack is the first in its currency, which purchases without a pack name use. */
function isDefault(rows: PackRow[], index: number): boolean {
  return rows.findIndex(({ currency }) => currency === rows[index]?.currency) === index;
}

function PackFields({ row, set, errorOf, readOnly }: RowProps<PackRow>) {
  const { document } = parsePacks([row]);
  return (
    <>
      <SimpleGrid cols={{ base: 2, sm: 4 }} spacing="sm">
        <TextInput
          label="Name"
          required
          readOnly={readOnly}
          maxLength={63}
          value={row.name}
          onChange={({ currentTarget }) => set({ ...row, name: currentTarget.value })}
          error={errorOf("name")}
        />
        <TextInput
          label="Price"
          required
          readOnly={readOnly}
          inputMode="decimal"
          placeholder="5.00"
          value={row.price}
          onChange={({ currentTarget }) => set({ ...row, price: currentTarget.value })}
          error={errorOf("price")}
        />
        <TextInput
          label="Currency"
          required
          readOnly={readOnly}
          maxLength={3}
          value={row.currency}
          onChange={({ currentTarget }) => set({ ...row, currency: currentTarget.value.toUpperCase() })}
          error={errorOf("currency")}
        />
        <NumberField
          {...PACK_CREDITS}
          label="Credits"
          readOnly={readOnly}
          value={row.credits}
          onChange={(credits) => set({ ...row, credits })}
          error={errorOf("credits")}
        />
      </SimpleGrid>
      <Text size="sm" mt="xs" c="dimmed" aria-live="polite">
        {document?.packs[0] === undefined ? "\u00a0" : packSentence(document.packs[0])}
      </Text>
    </>
  );
}
