import { Group, SimpleGrid, Stack, Switch, Textarea, TextInput } from "@mantine/core";

import { api, bodyOf } from "../../api/client";
import type { PlanDocument, PlansDocument, PlansState } from "../../api/models";
import { NumberField } from "../../components/NumberField";
import { Tag } from "../../components/Tag";
import { EXAMPLES, freshPlan, parsePlans, PLAN_ORDER, planRows, type PlanRow } from "../../logic/plans";
import { RowList, type RowProps } from "./RowList";
import { SectionEditor } from "./SectionEditor";
import type { FormProps, SectionForm } from "./section";

const FORM: SectionForm<PlansState, PlanRow[], PlansDocument> = {
  section: "plans",
  consequences: "Applies to new subscriptions. Subscribers keep the terms of the version that they subscribed to.",
  read: (signal) => bodyOf(api.GET("/admin/config/plans", { signal })),
  documentOf: ({ plans }) => ({ plans }),
  toDraft: planRows,
  parse: parsePlans,
  unusualIn: () => null,
  fromVersion: ({ plans }) => ({ plans: plans as PlanDocument[] }),
  save: (document, edit) => bodyOf(api.PUT("/admin/config/plans", { body: { ...document, ...edit } })),
};

export function PlansTab() {
  return <SectionEditor form={FORM}>{(props) => <Plans {...props} />}</SectionEditor>;
}

function Plans(props: FormProps<PlanRow[]>) {
  return (
    <RowList
      {...props}
      noun="plan"
      label="Plans"
      about="A saved plan cannot be removed, because accounts may have it: withdraw it instead."
      titleOf={({ name }) => name}
      markOf={(rows, index) => rows[index]?.withdrawn === true && <Tag tone="warn">Withdrawn</Tag>}
      fixedIn={({ stored }) => stored}
      fresh={() => freshPlan}
      fields={PlanFields}
    />
  );
}

function PlanFields({ row, set, errorOf, readOnly }: RowProps<PlanRow>) {
  const change = (fields: Partial<PlanRow>) => set({ ...row, ...fields });
  const text = (label: string, field: "name" | "title" | "discount" | "markup", maxLength: number) => (
    <TextInput
      label={label}
      required
      readOnly={readOnly || (field === "name" && row.stored)}
      maxLength={maxLength}
      value={row[field]}
      onChange={({ currentTarget }) => change({ [field]: currentTarget.value })}
      error={errorOf(field)}
    />
  );
  const lines = (label: string, field: "prices" | "grants" | "limits" | "features", description: string) => (
    <Textarea
      label={label}
      description={description}
      readOnly={readOnly}
      autosize
      minRows={1}
      value={row[field]}
      onChange={({ currentTarget }) => change({ [field]: currentTarget.value })}
      error={errorOf(field)}
    />
  );
  const toggle = (label: string, field: "hidden" | "byAgreement" | "withdrawn") => (
    <Switch
      label={label}
      disabled={readOnly}
      checked={row[field]}
      onChange={({ currentTarget }) => change({ [field]: currentTarget.checked })}
    />
  );
  return (
    <Stack gap="sm">
      <SimpleGrid cols={{ base: 2, sm: 5 }} spacing="sm">
        {text("Name", "name", 63)}
        {text("Title", "title", 100)}
        {text("Discount on purchases, %", "discount", 12)}
        {text("Markup on usage, %", "markup", 12)}
        <NumberField
          {...PLAN_ORDER}
          label="Order"
          readOnly={readOnly}
          value={row.order}
          onChange={(order) => change({ order })}
          error={errorOf("order")}
        />
      </SimpleGrid>
      {lines("Prices", "prices", `One per line: ${EXAMPLES.prices}`)}
      {lines("Grants", "grants", `One per line: ${EXAMPLES.grants}`)}
      {lines("Default limits", "limits", `One per line: ${EXAMPLES.limits}`)}
      {lines("Features", "features", "One per line, as the list of plans shows them")}
      <Group gap="lg">
        {toggle("Hidden", "hidden")}
        {toggle("By agreement", "byAgreement")}
        {toggle("Withdrawn", "withdrawn")}
      </Group>
    </Stack>
  );
}
