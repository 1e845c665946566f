/** The form of the price calculator: its values, and the request that they make. */
import type { CalculationBody } from "../../api/models";
import { keysOf } from "../../logic/filters";
import { readWhole, type Bounds } from "../../logic/numbers";
import { METERS, TOKEN_CLASSES, type TokenClass } from "./labels";

export const METER_CHOICES = { ...METERS, custom: "Storage or custom meter" } as const;
export type Meter = keyof typeof METER_CHOICES;
export const MODES = { standard: "Standard", batch: "Batch", priority: "Priority" } as const;
export type Mode = keyof typeof MODES;

export interface CalculationValues {
  meter: Meter;
  provider: string;
  model: string;
  mode: Mode;
  tokens: Partial<Record<TokenClass, string>>;
  cpuHours: string;
  memoryGbHours: string;
  /** The endpoint, the tool or the meter. */
  name: string;
  count: string;
  quantity: string;
  plan: string;
  tool: string;
  /** An ISO time; null: now. */
  at: string | null;
  monthQuantity: string;
}

/** The usage that a check assumes for a call of a model. */
export const START: CalculationValues = {
  meter: "llm_tokens",
  provider: "",
  model: "",
  mode: "standard",
  tokens: { input_uncached: "2000", output_text: "1000" },
  cpuHours: "",
  memoryGbHours: "",
  name: "",
  count: "1",
  quantity: "1",
  plan: "",
  tool: "",
  at: null,
  monthQuantity: "",
};
export const COUNT: Bounds = { least: 0, most: 1_000_000_000_000 };
export const TOKENS: Bounds = { ...COUNT, optional: true };
const QUANTITY = /^\d{1,12}(\.\d{1,9})?$/;

/** Return why a text is not a quantity, with at most nine decimals; null: it is one, or is empty. */
export function quantityProblem(text: string): string | null {
  return text === "" || QUANTITY.test(text) ? null : "Enter a number such as 1.5, with at most 9 decimals";
}

/** Whether the price of a meter can depend on the account's earlier quantity in the month. */
export function hasTiers(meter: Meter): boolean {
  return meter !== "llm_tokens" && meter !== "compute";
}

/** Return the request, or why there is none yet. A quantity of the month that the form does not show is left out. */
export function calculationOf(values: CalculationValues): { body: CalculationBody; problem: null } | { body: null; problem: string } {
  const { usage, problem } = usageOf(values);
  const monthQuantity = hasTiers(values.meter) ? values.monthQuantity : "";
  const wrong = problem ?? quantityProblem(monthQuantity);
  if (usage === null || wrong !== null) return { body: null, problem: wrong ?? "Complete the form" };
  const body: CalculationBody = {
    usage,
    at: values.at,
    plan: values.plan.trim() || null,
    tool: values.tool.trim() || null,
    month_quantity: monthQuantity || "0",
  };
  return { body, problem: null };
}

type Usage = CalculationBody["usage"];
type Result = { usage: Usage; problem: null } | { usage: null; problem: string };

function usageOf(values: CalculationValues): Result {
  const { meter, count, quantity } = values;
  const name = values.name.trim();
  switch (meter) {
    case "llm_tokens":
      return tokensOf(values);
    case "compute": {
      const [cpu_hours, memory_gb_hours] = [values.cpuHours || "0", values.memoryGbHours || "0"];
      const problem = quantityProblem(cpu_hours) ?? quantityProblem(memory_gb_hours);
      return problem === null ? { usage: { meter, cpu_hours, memory_gb_hours }, problem } : refused(problem);
    }
    case "custom": {
      const problem = name === "" ? "Enter a meter" : quantity === "" ? "Enter a quantity" : quantityProblem(quantity);
      return problem === null ? { usage: { meter, name, quantity }, problem } : refused(problem);
    }
    default: {
      const calls = readWhole(count, COUNT);
      if (calls.value === null) return refused(`Calls: ${calls.problem ?? "enter a whole number"}`);
      if (meter === "tool_calls" && name === "") return refused("Enter a tool");
      return { usage: meter === "tool_calls" ? { meter, tool: name, count: calls.value } : { meter, endpoint: name, count: calls.value }, problem: null };
    }
  }
}

function tokensOf({ provider, model, mode, tokens }: CalculationValues): Result {
  if (model.trim() === "") return refused("Enter a model");
  const counts: Record<string, number> = {};
  for (const name of keysOf(TOKEN_CLASSES)) {
    const { value, problem } = readWhole(tokens[name] ?? "", TOKENS);
    if (problem !== null) return refused(`${TOKEN_CLASSES[name]}: ${problem.toLowerCase()}`);
    if (value !== null && value > 0) counts[name] = value;
  }
  return { usage: { meter: "llm_tokens", provider: provider.trim(), model: model.trim(), mode, tokens: counts }, problem: null };
}

function refused(problem: string): Result {
  return { usage: null, problem };
}
