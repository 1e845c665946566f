import { SimpleGrid, Stack, Text, TextInput } from "@mantine/core";
import { IconPlus } from "@tabler/icons-react";

import { api, bodyOf } from "../../api/client";
import type { PackDocument, PacksState } from "../../api/models";
import { NumberField } from "../../components/NumberField";
import { RoleButton } from "../../components/RoleButton";
import { Tag } from "../../components/Tag";
import { moved, PACK_CREDITS, packRows, packSentence, parsePacks, unusualPacks, type PackRow } from "../../logic/configuration";
import { RowFrame } from "./RowFrame";
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

function Packs({ draft: rows, set, errorOf, readOnly }: FormProps<PackRow[]>) {
  const add = () => {
    const id = Math.max(-1, ...rows.map((row) => row.id)) + 1;
    set([...rows, { id, name: "", price: "", currency: rows[0]?.currency ?? "USD", credits: "" }]);
  };
  return (
    <Stack gap="sm" align="flex-start">
      <Text size="sm">Purchases without a pack name use the first pack in the account's currency.</Text>
      <Stack component="ol" gap="sm" p={0} m={0} w="100%" aria-label="Price packs, default first">
        {rows.map((row, index) => (
          <RowFrame
            key={row.id}
            title={row.name === "" ? "New pack" : row.name}
            mark={isDefault(rows, index) && <Tag tone="info">{`Default for ${row.currency}`}</Tag>}
            readOnly={readOnly}
            onRemove={() => set(rows.filter(({ id }) => id !== row.id))}
            move={{
              up: index === 0 ? undefined : () => set(moved(rows, index, -1)),
              down: index === rows.length - 1 ? undefined : () => set(moved(rows, index, 1)),
            }}
          >
            <PackFields
              row={row}
              set={(next) => set(rows.with(index, next))}
              errorOf={(name) => errorOf(`${index}.${name}`)}
              readOnly={readOnly}
            />
          </RowFrame>
        ))}
      </Stack>
      <RoleButton needs="admin" size="xs" leftSection={<IconPlus size={14} aria-hidden />} onClick={add}>
        Add pack
      </RoleButton>
    </Stack>
  );
}

/** Whether a pack is the first in its currency, which purchases without a pack name use. */
function isDefault(rows: PackRow[], index: number): boolean {
  return rows.findIndex(({ currency }) => currency === rows[index]?.currency) === index;
}

interface RowProps extends Omit<FormProps<PackRow>, "draft"> {
  row: PackRow;
}

function PackFields({ row, set, errorOf, readOnly }: RowProps) {
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
