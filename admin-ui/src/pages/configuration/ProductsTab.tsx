import { SimpleGrid, Stack, Text, TextInput } from "@mantine/core";
import { IconPlus } from "@tabler/icons-react";

import { api, bodyOf } from "../../api/client";
import type { ProductDocument, ProductsState } from "../../api/models";
import { NumberField } from "../../components/NumberField";
import { RoleButton } from "../../components/RoleButton";
import {
  parseProducts,
  PRODUCT_BOUNDS,
  productRows,
  productSentence,
  unusualProducts,
  type ProductRow,
} from "../../logic/configuration";
import { readWhole } from "../../logic/numbers";
import { RowFrame } from "./RowFrame";
import { SectionEditor } from "./SectionEditor";
import type { FormProps, SectionForm } from "./section";

const FORM: SectionForm<ProductsState, ProductRow[], { products: ProductDocument[] }> = {
  section: "products",
  consequences:
    "Tool uses from now on have the new prices. A product that is gone is refused to agents as unknown; what users have left of it waits until it comes back.",
  read: (signal) => bodyOf(api.GET("/admin/config/products", { signal })),
  documentOf: ({ products }) => ({ products }),
  toDraft: ({ products }) => productRows(products),
  parse: parseProducts,
  unusualIn: unusualProducts,
  fromVersion: ({ products }) => ({ products: products as ProductDocument[] }),
  save: (document, edit) => bodyOf(api.PUT("/admin/config/products", { body: { ...document, ...edit } })),
};

const NUMBERS = [
  { field: "price", label: "Price in credits" },
  { field: "initialFree", label: "Free at first" },
  { field: "dailyFree", label: "More free a day" },
  { field: "cap", label: "Up to" },
] as const;

export function ProductsTab() {
  return <SectionEditor form={FORM}>{(props) => <Products {...props} />}</SectionEditor>;
}

function Products({ draft: rows, set, errorOf, readOnly }: FormProps<ProductRow[]>) {
  const add = () => {
    const id = Math.max(-1, ...rows.map((row) => row.id)) + 1;
    set([...rows, { id, name: "", price: "1", initialFree: "0", dailyFree: "0", cap: "" }]);
  };
  return (
    <Stack gap="sm" align="flex-start">
      <Text size="sm">The tools that agents charge for. Free uses come first, then the main pool pays the price.</Text>
      {rows.length === 0 && <Text size="sm" c="dimmed">No product: agents cannot charge for tools.</Text>}
      <Stack component="ul" gap="sm" p={0} m={0} w="100%" aria-label="Products">
        {rows.map((row, index) => (
          <RowFrame
            key={row.id}
            title={row.name === "" ? "New product" : row.name}
            readOnly={readOnly}
            onRemove={() => set(rows.filter(({ id }) => id !== row.id))}
          >
            <ProductFields
              row={row}
              set={(next) => set(rows.with(index, next))}
              errorOf={(name) => errorOf(`${index}.${name}`)}
              readOnly={readOnly}
            />
          </RowFrame>
        ))}
      </Stack>
      <RoleButton needs="admin" size="xs" leftSection={<IconPlus size={14} aria-hidden />} onClick={add}>
        Add a product
      </RoleButton>
    </Stack>
  );
}

interface RowProps extends Omit<FormProps<ProductRow>, "draft"> {
  row: ProductRow;
}

function ProductFields({ row, set, errorOf, readOnly }: RowProps) {
  const { document } = parseProducts([row]);
  return (
    <>
      <SimpleGrid cols={{ base: 2, sm: 5 }} spacing="sm">
        <TextInput
          label="Name"
          required
          readOnly={readOnly}
          maxLength={63}
          value={row.name}
          onChange={({ currentTarget }) => set({ ...row, name: currentTarget.value })}
          error={errorOf("name")}
        />
        {NUMBERS.map(({ field, label }) => (
          <NumberField
            key={field}
            {...PRODUCT_BOUNDS[field]}
            label={label}
            readOnly={readOnly}
            placeholder={field === "cap" ? String(sumOf(row)) : undefined}
            value={row[field]}
            onChange={(value) => set({ ...row, [field]: value })}
            error={errorOf(field)}
          />
        ))}
      </SimpleGrid>
      <Text size="sm" mt="xs" c="dimmed" aria-live="polite">
        {document?.products[0] === undefined ? "\u00a0" : productSentence(document.products[0])}
      </Text>
    </>
  );
}

/** What the cap is when none is given. */
function sumOf({ initialFree, dailyFree }: ProductRow): number {
  const { initialFree: ofInitial, dailyFree: ofDaily } = PRODUCT_BOUNDS;
  return (readWhole(initialFree, ofInitial).value ?? 0) + (readWhole(dailyFree, ofDaily).value ?? 0);
}
