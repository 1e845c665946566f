import { SimpleGrid, Text, TextInput } from "@mantine/core";

import { api, bodyOf } from "../../api/client";
import type { ProductDocument, ProductsState } from "../../api/models";
import { NumberField } from "../../components/NumberField";
import {
  parseProducts,
  PRODUCT_BOUNDS,
  productRows,
  productSentence,
  unusualProducts,
  type ProductRow,
} from "../../logic/configuration";
import { readWhole } from "../../logic/numbers";
import { RowList, type RowProps } from "./RowList";
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

function Products(props: FormProps<ProductRow[]>) {
  return (
    <RowList
      {...props}
      noun="product"
      label="Products"
      about="Tools that agents charge for. Free uses are spent first; then the main pool pays the price."
      none="No products: agents cannot charge for tools."
      titleOf={({ name }) => name}
      fresh={() => ({ name: "", price: "1", initialFree: "0", dailyFree: "0", cap: "" })}
      fields={ProductFields}
    />
  );
}

function ProductFields({ row, set, errorOf, readOnly }: RowProps<ProductRow>) {
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
