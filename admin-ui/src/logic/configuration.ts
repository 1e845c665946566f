/** Configuration forms: the typed rows, and the documents that they parse to. */
import type { DefaultsDocument, DisplayRate, OneTimeGrantsDocument, PackDocument, PlanDocument, ProductDocument } from "../api/models";
import { currencyInfo, isSupported } from "./currencies";
import type { Facts } from "./diff";
import { rateSentence } from "./displayRates";
import { formatCredits, formatMoney, formatNumber, formatRate, moneyInput, parseMoney } from "./format";
import { readWhole, UNUSUAL, type Bounds } from "./numbers";
import { oneTimeFacts } from "./oneTimeGrants";
import { planSentence } from "./plans";

export type Errors = Record<string, string>;

/** A parsed form: a document, or errors by row and field such as "0.price". */
export type Parsed<Document> = { document: Document; errors: null } | { document: null; errors: Errors };

export interface PackRow {
  id: number;
  name: string;
  price: string;
  currency: string;
  /** The typed text of a whole number. */
  credits: string;
}

export interface ProductRow {
  id: number;
  name: string;
  price: string;
  initialFree: string;
  dailyFree: string;
  cap: string;
}

export interface DefaultsDraft {
  freeUses: string;
  dailyFreeUses: string;
  planName: string;
  currency: string;
}

const SLUG = /^[a-z][a-z0-9_]{0,62}$/;
const CURRENCY = /^[A-Z]{3}$/;
const MOST_MINOR = 99_999_999;
const EXAMPLE_MINOR = 500;
const MOST_USES = 1_000_000;

/** Bounds of the forms' number fields, the same as the server's. */
export const PACK_CREDITS: Bounds = { least: 1, most: 1_000_000_000 };
export const PRODUCT_BOUNDS = {
  price: { least: 1, most: MOST_USES },
  initialFree: { least: 0, most: MOST_USES },
  dailyFree: { least: 0, most: MOST_USES },
  cap: { least: 0, most: 2 * MOST_USES, optional: true },
} satisfies Record<string, Bounds>;
export const FREE_USES: Bounds = { least: 0, most: MOST_USES };

export function packRows(packs: PackDocument[]): PackRow[] {
  return packs.map(({ name, price_minor, currency, credits }, id) => {
    return { id, name, price: moneyInput(price_minor, currency), currency, credits: String(credits) };
  });
}

export function parsePacks(rows: PackRow[]): Parsed<{ packs: PackDocument[] }> {
  const errors: Errors = {};
  const packs = rows.map((row, index) => {
    const price = parseMoney(row.price, row.currency);
    const credits = readWhole(row.credits, PACK_CREDITS);
    checkName(errors, rows, index);
    const problem = priceProblem(price, row.currency);
    if (problem !== null) errors[`${index}.price`] = problem;
    checkCurrency(errors, `${index}.currency`, row.currency);
    if (credits.problem !== null) errors[`${index}.credits`] = credits.problem;
    return { name: row.name, price_minor: price ?? 0, currency: row.currency, credits: credits.value ?? 0 };
  });
  if (packs.length === 0) errors.form = "Add at least one pack";
  return parsed({ packs }, errors);
}

export function productRows(products: ProductDocument[]): ProductRow[] {
  return products.map(({ name, price_credits, initial_free, daily_free, free_cap }, id) => {
    return {
      id,
      name,
      price: String(price_credits),
      initialFree: String(initial_free),
      dailyFree: String(daily_free),
      cap: free_cap === null || free_cap === undefined ? "" : String(free_cap),
    };
  });
}

export function parseProducts(rows: ProductRow[]): Parsed<{ products: ProductDocument[] }> {
  const errors: Errors = {};
  const products = rows.map((row, index) => {
    const numberIn = (field: keyof typeof PRODUCT_BOUNDS) => {
      const { value, problem } = readWhole(row[field], PRODUCT_BOUNDS[field]);
      if (problem !== null) errors[`${index}.${field}`] = problem;
      return value;
    };
    checkName(errors, rows, index);
    return {
      name: row.name,
      price_credits: numberIn("price") ?? 0,
      initial_free: numberIn("initialFree") ?? 0,
      daily_free: numberIn("dailyFree") ?? 0,
      free_cap: numberIn("cap"),
    };
  });
  return parsed({ products }, errors);
}

export function defaultsDraft(defaults: DefaultsDocument): DefaultsDraft {
  return {
    freeUses: String(defaults.free_uses),
    dailyFreeUses: String(defaults.daily_free_uses),
    planName: defaults.plan_name,
    currency: defaults.currency,
  };
}

export function parseDefaults(draft: DefaultsDraft): Parsed<DefaultsDocument> {
  const errors: Errors = {};
  const free = readWhole(draft.freeUses, FREE_USES);
  const daily = readWhole(draft.dailyFreeUses, FREE_USES);
  const plan = draft.planName.trim();
  if (free.problem !== null) errors.freeUses = free.problem;
  if (daily.problem !== null) errors.dailyFreeUses = daily.problem;
  if (plan === "") errors.planName = "Enter a name";
  checkCurrency(errors, "currency", draft.currency);
  return parsed(
    { free_uses: free.value ?? 0, daily_free_uses: daily.value ?? 0, plan_name: plan, currency: draft.currency },
    errors,
  );
}

/** Return why the provider rejects this price; null: it accepts it. */
function priceProblem(price: number | null, currency: string): string | null {
  const { step_minor, minimum_minor } = currencyInfo(currency);
  if (price === null || price < 1 || price > MOST_MINOR) return `Enter a price such as ${moneyInput(EXAMPLE_MINOR, currency)}`;
  if (price % step_minor !== 0) return `Stripe only accepts multiples of ${formatMoney(step_minor, currency)}`;
  return price < minimum_minor ? `Stripe's minimum is ${formatMoney(minimum_minor, currency)}` : null;
}

function checkCurrency(errors: Errors, field: string, currency: string): void {
  if (!CURRENCY.test(currency)) errors[field] = "Enter three letters, such as USD";
  else if (!isSupported(currency)) errors[field] = `Stripe does not support ${currency}`;
}

function checkName(errors: Errors, rows: { name: string }[], index: number): void {
  const name = rows[index]?.name ?? "";
  if (!SLUG.test(name)) errors[`${index}.name`] = "Use lowercase letters, digits and _, beginning with a letter";
  else if (rows.findIndex((row) => row.name === name) < index) errors[`${index}.name`] = "This name is already used";
}

function parsed<Document>(document: Document, errors: Errors): Parsed<Document> {
  return Object.keys(errors).length === 0 ? { document, errors: null } : { document: null, errors };
}

export function unusualPacks({ packs }: { packs: PackDocument[] }, before: { packs: PackDocument[] }): string | null {
  return inList(
    packs.flatMap((pack) => {
      const was = before.packs.find(({ name }) => name === pack.name);
      return [
        changedAbove(pack.credits, was?.credits, UNUSUAL.packCredits) ? formatCredits(pack.credits) : null,
        changedAbove(pack.price_minor, was?.price_minor, UNUSUAL.packPriceMinor)
          ? formatMoney(pack.price_minor, pack.currency)
          : null,
      ];
    }),
  );
}

export function unusualProducts(
  { products }: { products: ProductDocument[] },
  before: { products: ProductDocument[] },
): string | null {
  return inList(
    products.flatMap((product) => {
      const was = before.products.find(({ name }) => name === product.name);
      const { price_credits: price, initial_free: initial, daily_free: daily } = product;
      return [
        changedAbove(price, was?.price_credits, UNUSUAL.productPriceCredits) ? `${formatCredits(price)} per use` : null,
        changedAbove(initial, was?.initial_free, UNUSUAL.freeUses) ? `${formatNumber(initial)} initial free uses` : null,
        changedAbove(daily, was?.daily_free, UNUSUAL.freeUses) ? `${formatNumber(daily)} free uses per day` : null,
      ];
    }),
  );
}

export function unusualDefaults(defaults: DefaultsDocument, before: DefaultsDocument): string | null {
  const { free_uses: free, daily_free_uses: daily } = defaults;
  return inList([
    changedAbove(free, before.free_uses, UNUSUAL.freeUses) ? `${formatNumber(free)} free credits` : null,
    changedAbove(daily, before.daily_free_uses, UNUSUAL.freeUses) ? `${formatNumber(daily)} free credits per day` : null,
  ]);
}

function changedAbove(now: number, before: number | undefined, bound: number): boolean {
  return now > bound && now !== before;
}

function inList(amounts: (string | null)[]): string | null {
  const given = amounts.filter((amount) => amount !== null);
  return given.length === 0 ? null : given.join(" and ");
}

/** "5.00 USD for 20 credits, 0.25 USD each" */
export function packSentence({ price_minor, currency, credits }: Omit<PackDocument, "name">): string {
  const price = formatMoney(price_minor, currency);
  if (credits === 1) return `${price} for 1 credit`;
  return `${price} for ${formatCredits(credits)}, ${formatRate(price_minor, credits, currency)} each`;
}

/** "1 credit per use; 10 free initially, 3 more per day, up to 13" */
export function productSentence(product: Omit<ProductDocument, "name">): string {
  const { price_credits: price, initial_free: initial, daily_free: daily } = product;
  const cost = `${formatCredits(price)} per use`;
  const cap = product.free_cap ?? initial + daily;
  const free = [
    initial > 0 ? `${formatNumber(initial)} free initially` : null,
    daily > 0 ? `${formatNumber(daily)} more per day, up to ${formatNumber(cap)}` : null,
  ].filter((part) => part !== null);
  return free.length === 0 ? `${cost}, no free uses` : `${cost}; ${free.join(", ")}`;
}

/** Return a section's document as names and readable values, for comparison. */
export function factsOf(document: object | null): Facts {
  const { packs, products, plans, rates, ...rest }: Facts = { ...document };
  if (isListOf<PackDocument>(packs)) {
    const facts = packs.map((pack): [string, string] => [`pack ${pack.name}`, packSentence(pack)]);
    return { default_pack: packs[0]?.name, order: packs.map(({ name }) => name), ...Object.fromEntries(facts) };
  }
  if (isListOf<ProductDocument>(products)) {
    return Object.fromEntries(products.map((product) => [`product ${product.name}`, productSentence(product)]));
  }
  if (isListOf<DisplayRate>(rates)) {
    return Object.fromEntries(rates.map((rate) => [`rate ${rate.base}/${rate.quote}`, rateSentence(rate)]));
  }
  if (isListOf<PlanDocument>(plans)) {
    return Object.fromEntries(plans.map((plan) => [`plan ${plan.name}`, planSentence(plan)]));
  }
  return "referral_inviter" in rest ? oneTimeFacts(rest as unknown as OneTimeGrantsDocument) : rest;
}

/** The items are not checked: the server wrote them by the schema of type T. */
function isListOf<T>(value: unknown): value is T[] {
  return Array.isArray(value);
}

/** Return the rows with one moved by a position; unchanged at the ends of the list. */
export function moved<Row>(rows: Row[], index: number, by: 1 | -1): Row[] {
  const [one, other] = [rows[index], rows[index + by]];
  if (one === undefined || other === undefined) return rows;
  return rows.with(index, other).with(index + by, one);
}
