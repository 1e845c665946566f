import { Button, Fieldset, Select, SimpleGrid, Stack, Text, TextInput } from "@mantine/core";
import { useMutation, useQuery } from "@tanstack/react-query";
import { useState } from "react";

import { api, bodyOf } from "../../api/client";
import type { CalculationBody, PriceBook } from "../../api/models";
import { EmptyState } from "../../components/EmptyState";
import { ErrorAlert } from "../../components/ErrorAlert";
import { ListSkeleton } from "../../components/ListSkeleton";
import { NumberField } from "../../components/NumberField";
import { Section } from "../../components/Section";
import { fromLocalInput, toLocalInput } from "../../logic/dates";
import { keysOf, oneOf } from "../../logic/filters";
import { calculationOf, COUNT, hasTiers, METER_CHOICES, MODES, quantityProblem, START, TOKENS, type CalculationValues } from "./calculation";
import { CalculatedPrice } from "./CalculatedPrice";
import { STATES, TOKEN_CLASSES } from "./labels";

/** The calculator of any version; first of the one in force. */
export function Calculator() {
  const { data, error, refetch } = useQuery({
    queryKey: ["price-books", "calculator"],
    queryFn: ({ signal }) => bodyOf(api.GET("/admin/price-books", { params: { query: { limit: 200 } }, signal })),
  });
  const [chosen, setChosen] = useState<string | null>(null);
  if (error) return <ErrorAlert error={error} onRetry={() => void refetch()} />;
  if (data === undefined) return <ListSkeleton label="Loading price books" />;
  const books = data.price_books;
  const first = books.find(({ state }) => state === "in_force") ?? books[0];
  if (first === undefined) return <EmptyState title="No price books">Import a price book to calculate prices.</EmptyState>;
  const version = books.find((book) => String(book.version) === chosen) ?? first;
  return (
    <VersionCalculator
      version={version.version}
      choice={
        <Select
          label="Price book"
          data={books.map((book) => ({ value: String(book.version), label: nameOf(book) }))}
          value={String(version.version)}
          allowDeselect={false}
          onChange={setChosen}
        />
      }
    />
  );
}

function nameOf(book: PriceBook): string {
  return `${book.name}, version ${String(book.version)} (${book.currency}, ${STATES[book.state].label.toLowerCase()})`;
}

/** Calculates by the code that charges usage. Nothing is charged. */
export function VersionCalculator({ version, choice }: { version: number; choice?: React.ReactNode }) {
  const [values, setValues] = useState(START);
  const { body, problem } = calculationOf(values);
  const calculation = useMutation({
    mutationFn: (asked: CalculationBody) =>
      bodyOf(api.POST("/admin/price-books/{version}/calculate", { params: { path: { version } }, body: asked })),
  });
  return (
    <Section title="What would this usage cost?">
      <form
        onSubmit={(event) => {
          event.preventDefault();
          if (body !== null) calculation.mutate(body);
        }}
      >
        <Stack gap="md">
          {choice}
          <Fields values={values} onChange={(changes) => setValues((now) => ({ ...now, ...changes }))} />
          <div>
            <Button
              type="submit"
              loading={calculation.isPending}
              data-disabled={problem !== null || undefined}
              aria-disabled={problem !== null}
            >
              Calculate
            </Button>
            <Text size="xs" c="dimmed" mt={4} aria-live="polite">
              {problem}
            </Text>
          </div>
        </Stack>
      </form>
      {calculation.error && <ErrorAlert error={calculation.error} />}
      {calculation.data && <CalculatedPrice found={calculation.data} />}
    </Section>
  );
}

interface FieldsProps {
  values: CalculationValues;
  onChange: (changes: Partial<CalculationValues>) => void;
}

function Fields({ values, onChange }: FieldsProps) {
  return (
    <>
      <SimpleGrid cols={{ base: 1, xs: 2, md: 4 }} spacing="sm">
        <Select
          label="Meter"
          data={keysOf(METER_CHOICES).map((value) => ({ value, label: METER_CHOICES[value] }))}
          value={values.meter}
          allowDeselect={false}
          onChange={(value) => onChange({ meter: oneOf(value, keysOf(METER_CHOICES)) ?? values.meter })}
        />
        <MeterFields values={values} onChange={onChange} />
      </SimpleGrid>
      {values.meter === "llm_tokens" && <TokenFields values={values} onChange={onChange} />}
      <SimpleGrid cols={{ base: 1, xs: 2, md: 4 }} spacing="sm">
        <Field label="Plan" value={values.plan} onChange={(plan) => onChange({ plan })} description="Selects markups" />
        {values.meter !== "tool_calls" && (
          <Field label="Tool" value={values.tool} onChange={(tool) => onChange({ tool })} description="That the usage belongs to" />
        )}
        <TextInput
          label="Time of the event"
          description="Empty: now"
          type="datetime-local"
          value={values.at === null ? "" : toLocalInput(values.at)}
          onChange={({ currentTarget }) => onChange({ at: fromLocalInput(currentTarget.value) })}
        />
        {hasTiers(values.meter) && (
          <Quantity
            label="Earlier this month"
            description="Quantity, for prices with tiers"
            value={values.monthQuantity}
            onChange={(monthQuantity) => onChange({ monthQuantity })}
          />
        )}
      </SimpleGrid>
    </>
  );
}

function MeterFields({ values, onChange }: FieldsProps) {
  const { meter } = values;
  if (meter === "llm_tokens") {
    return (
      <>
        <Field label="Provider" value={values.provider} onChange={(provider) => onChange({ provider })} placeholder="openai" />
        <Field label="Model" value={values.model} onChange={(model) => onChange({ model })} placeholder="gpt-4o-mini" />
        <Select
          label="Mode"
          data={keysOf(MODES).map((value) => ({ value, label: MODES[value] }))}
          value={values.mode}
          allowDeselect={false}
          onChange={(value) => onChange({ mode: oneOf(value, keysOf(MODES)) ?? values.mode })}
        />
      </>
    );
  }
  if (meter === "compute") {
    return (
      <>
        <Quantity label="CPU hours" value={values.cpuHours} onChange={(cpuHours) => onChange({ cpuHours })} />
        <Quantity label="Memory, GB hours" value={values.memoryGbHours} onChange={(memoryGbHours) => onChange({ memoryGbHours })} />
      </>
    );
  }
  const label = { api_calls: "Endpoint", tool_calls: "Tool", custom: "Meter" }[meter];
  return (
    <>
      <Field label={label} value={values.name} onChange={(name) => onChange({ name })} />
      {meter === "custom" ? (
        <Quantity label="Quantity" value={values.quantity} onChange={(quantity) => onChange({ quantity })} />
      ) : (
        <NumberField {...COUNT} label="Calls" value={values.count} onChange={(count) => onChange({ count })} error={undefined} />
      )}
    </>
  );
}

function TokenFields({ values, onChange }: FieldsProps) {
  return (
    <Fieldset legend="Tokens">
      <SimpleGrid cols={{ base: 2, sm: 3, md: 5 }} spacing="sm">
        {keysOf(TOKEN_CLASSES).map((name) => (
          <NumberField
            {...TOKENS}
            key={name}
            label={TOKEN_CLASSES[name]}
            value={values.tokens[name] ?? ""}
            onChange={(text) => onChange({ tokens: { ...values.tokens, [name]: text } })}
            error={undefined}
          />
        ))}
      </SimpleGrid>
    </Fieldset>
  );
}

interface TextProps {
  label: string;
  description?: string;
  placeholder?: string;
  value: string;
  onChange: (text: string) => void;
}

function Field({ onChange, ...rest }: TextProps) {
  return <TextInput {...rest} maxLength={255} onChange={({ currentTarget }) => onChange(currentTarget.value)} />;
}

function Quantity({ onChange, value, ...rest }: TextProps) {
  return (
    <TextInput
      {...rest}
      inputMode="decimal"
      autoComplete="off"
      value={value}
      error={quantityProblem(value)}
      onChange={({ currentTarget }) => onChange(currentTarget.value)}
    />
  );
}
