/** What the forms of the configuration hold while somebody types, and the documents that come of it. */
import type { DefaultsDocument, PackDocument, ProductDocument } from "../api/models";
import type { Facts } from "./diff";
import { formatCredits, formatMoney, formatNumber, formatRate, moneyInput, parseMoney } from "./format";

export type Errors = Record<string, string>;

/** A form's text, read. With errors there is no document; they are named by row and field: "0.price". */
export type Parsed<Document> = { document: Document; errors: null } | { document: null; errors: Errors };

/** What an input for whole numbers holds. */
export type Whole = number | string;

export interface PackRow {
  id: number;
  name: string;
  price: string;
  currency: string;
  credits: Whole;
}

export interface ProductRow {
  id: number;
  name: string;
  price: Whole;
  initialFree: Whole;
  dailyFree: Whole;
  cap: Whole;
}

export interface DefaultsDraft {
  freeUses: Whole;
  dailyFreeUses: Whole;
  planName: string;
  currency: string;
}

const SLUG = /^[a-z][a-z0-9_]{0,62}$/;
const CURRENCY = /^[A-Z]{3}$/;
const MOST_MINOR = 99_999_999;
const MOST_CREDITS = 1_000_000_000;
const MOST_USES = 1_000_000;

export function packRows(packs: PackDocument[]): PackRow[] {
  return packs.map(({ name, price_minor, currency, credits }, id) => {
    return { id, name, price: moneyInput(price_minor, currency), currency, credits };
  });
}

export function parsePacks(rows: PackRow[]): Parsed<{ packs: PackDocument[] }> {
  const errors: Errors = {};
  const packs = rows.map((row, index) => {
    const price = parseMoney(row.price, row.currency);
    const credits = wholeOf(row.credits, 1, MOST_CREDITS);
    checkName(errors, rows, index);
    if (price === null || price < 1 || price > MOST_MINOR) errors[`${index}.price`] = "A price such as 5.00";
    if (!CURRENCY.test(row.currency)) errors[`${index}.currency`] = "Three letters, such as USD";
    if (credits === null) errors[`${index}.credits`] = "A whole number from 1 on";
    return { name: row.name, price_minor: price ?? 0, currency: row.currency, credits: credits ?? 0 };
  });
  if (packs.length === 0) errors.form = "At least one pack must be sold";
  return parsed({ packs }, errors);
}

export function productRows(products: ProductDocument[]): ProductRow[] {
  return products.map(({ name, price_credits, initial_free, daily_free, free_cap }, id) => {
    return { id, name, price: price_credits, initialFree: initial_free, dailyFree: daily_free, cap: free_cap ?? "" };
  });
}

export function parseProducts(rows: ProductRow[]): Parsed<{ products: ProductDocument[] }> {
  const errors: Errors = {};
  const products = rows.map((row, index) => {
    const price = wholeOf(row.price, 1, MOST_USES);
    const initial = wholeOf(row.initialFree, 0, MOST_USES);
    const daily = wholeOf(row.dailyFree, 0, MOST_USES);
    const cap = row.cap === "" ? null : wholeOf(row.cap, 0, 2 * MOST_USES);
    checkName(errors, rows, index);
    if (price === null) errors[`${index}.price`] = "A whole number from 1 on";
    if (initial === null) errors[`${index}.initialFree`] = "A whole number";
    if (daily === null) errors[`${index}.dailyFree`] = "A whole number";
    if (cap === null && row.cap !== "") errors[`${index}.cap`] = "A whole number, or nothing";
    return {
      name: row.name,
      price_credits: price ?? 0,
      initial_free: initial ?? 0,
      daily_free: daily ?? 0,
      free_cap: cap,
    };
  });
  return parsed({ products }, errors);
}

export function defaultsDraft(defaults: DefaultsDocument): DefaultsDraft {
  return {
    freeUses: defaults.free_uses,
    dailyFreeUses: defaults.daily_free_uses,
    planName: defaults.plan_name,
    currency: defaults.currency,
  };
}

export function parseDefaults(draft: DefaultsDraft): Parsed<DefaultsDocument> {
  const errors: Errors = {};
  const free = wholeOf(draft.freeUses, 0, MOST_USES);
  const daily = wholeOf(draft.dailyFreeUses, 0, MOST_USES);
  const plan = draft.planName.trim();
  if (free === null) errors.freeUses = "A whole number";
  if (daily === null) errors.dailyFreeUses = "A whole number";
  if (plan === "") errors.planName = "A name";
  if (!CURRENCY.test(draft.currency)) errors.currency = "Three letters, such as USD";
  return parsed(
    { free_uses: free ?? 0, daily_free_uses: daily ?? 0, plan_name: plan, currency: draft.currency },
    errors,
  );
}

function checkName(errors: Errors, rows: { name: string }[], index: number): void {
  const name = rows[index]?.name ?? "";
  if (!SLUG.test(name)) errors[`${index}.name`] = "Small letters, digits and _, a letter first";
  else if (rows.findIndex((row) => row.name === name) < index) errors[`${index}.name`] = "This name is there already";
}

function parsed<Document>(document: Document, errors: Errors): Parsed<Document> {
  return Object.keys(errors).length === 0 ? { document, errors: null } : { document: null, errors };
}

/** A whole number between the two, both included; null where there is none. */
export function wholeOf(value: Whole, least: number, most: number): number | null {
  const number = typeof value === "number" ? value : /^\d{1,15}$/.test(value) ? Number(value) : NaN;
  return Number.isInteger(number) && number >= least && number <= most ? number : null;
}

/** "5.00 USD for 20 credits, 0.25 USD each" */
export function packSentence({ price_minor, currency, credits }: Omit<PackDocument, "name">): string {
  const price = formatMoney(price_minor, currency);
  if (credits === 1) return `${price} for 1 credit`;
  return `${price} for ${formatCredits(credits)}, ${formatRate(price_minor, credits, currency)} each`;
}

/** "1 credit a use; 10 free at first, 3 more each day up to 13" */
export function productSentence(product: Omit<ProductDocument, "name">): string {
  const { price_credits: price, initial_free: initial, daily_free: daily } = product;
  const cost = `${formatCredits(price)} a use`;
  const cap = product.free_cap ?? initial + daily;
  const free = [
    initial > 0 ? `${formatNumber(initial)} free at first` : null,
    daily > 0 ? `${formatNumber(daily)} more each day up to ${formatNumber(cap)}` : null,
  ].filter((part) => part !== null);
  return free.length === 0 ? `${cost}, none free` : `${cost}; ${free.join(", ")}`;
}

/** Any section's document as names and words, for people to compare. */
export function factsOf(document: object | null): Facts {
  const { packs, products, ...rest }: Facts = { ...document };
  if (isListOf<PackDocument>(packs)) {
    const facts = packs.map((pack): [string, string] => [`pack ${pack.name}`, packSentence(pack)]);
    return { default_pack: packs[0]?.name, order: packs.map(({ name }) => name), ...Object.fromEntries(facts) };
  }
  if (isListOf<ProductDocument>(products)) {
    return Object.fromEntries(products.map((product) => [`product ${product.name}`, productSentence(product)]));
  }
  return rest;
}

/** The server wrote it, by the schema that the type stands for. */
function isListOf<T>(value: unknown): value is T[] {
  return Array.isArray(value);
}

/** The rows with one moved by a place; as they are where there is no such place. */
export function moved<Row>(rows: Row[], index: number, by: 1 | -1): Row[] {
  const [one, other] = [rows[index], rows[index + by]];
  if (one === undefined || other === undefined) return rows;
  return rows.with(index, other).with(index + by, one);
}
