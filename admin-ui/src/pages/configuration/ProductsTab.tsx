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
    "New tool uses have the new prices. Charges for a removed product are rejected as unknown; users' remaining uses are kept until the product is added again.",
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
  { field: "initialFree", label: "Initial free uses" },
  { field: "dailyFree", label: "Daily free uses" },
  { field: "cap", label: "Maximum free uses" },
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
      <Text size="sm">Tools that agents charge for. Free uses are spent first; then the main pool pays the price.</Text>
      {rows.length === 0 && <Text size="sm" c="dimmed">No products: agents cannot charge for tools.</Text>}
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
        Add product
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

/** Return the default cap. */
function sumOf({ initialFree, dailyFree }: ProductRow): number {
  const { initialFree: ofInitial, dailyFree: ofDaily } = PRODUCT_BOUNDS;
  return (readWhole(initialFree, ofInitial).value ?? 0) + (readWhole(dailyFree, ofDaily).value ?? 0);
}
