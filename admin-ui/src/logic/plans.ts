/** The form of the plans: rows with one line of text for each price, grant and limit, and the document they parse to. */
import type { PlanDocument, PlansDocument } from "../api/models";
import type { Errors, Parsed } from "./configuration";
import { formatMoney, moneyInput, parseMoney } from "./format";
import { readWhole, type Bounds } from "./numbers";

type Price = PlanDocument["prices"][number];
type Grant = PlanDocument["grants"][number];
type Limit = PlanDocument["default_limits"][number];

export interface PlanRow {
  id: number;
  name: string;
  /** A stored plan cannot be removed or renamed. */
  stored: boolean;
  title: string;
  prices: string;
  grants: string;
  limits: string;
  features: string;
  discount: string;
  markup: string;
  order: string;
  hidden: boolean;
  byAgreement: boolean;
  withdrawn: boolean;
}

export const PLAN_ORDER: Bounds = { least: 0, most: 10_000 };
export const EXAMPLES = {
  prices: "month 20.00 USD live=price_1Abc test=price_1Xyz",
  grants: "25.00 USD month never, or 100 credits day period_end rollover=50",
  limits: "account day 10.00 USD refuse, or agent:writer hour 5 credits notify",
} as const;

const SLUG = /^[a-z][a-z0-9_]{0,62}$/;
const PERCENT = /^-?\d{1,6}(\.\d{1,4})?$/;
const PRICE = /^(month|year) (\S+) ([A-Z]{3})(?: live=(price_\w+))?(?: test=(price_\w+))?$/;
const GRANT =
  /^(\d{1,10}(?:\.\d{1,9})?) (credits|[A-Z]{3}) (once|day|month) (?:(period_end|never)|after_days=(\d{1,4}))(?: rollover=(all|\d{1,10}(?:\.\d{1,9})?))?$/;
const LIMIT =
  /^(?:(account)|(key|agent|model|tool):(\S+)) (minute|hour|day|month|lifetime) (\d{1,10}(?:\.\d{1,9})?) (credits|uses|[A-Z]{3}) (refuse|notify)$/;

export const freshPlan: Omit<PlanRow, "id"> = {
  name: "",
  stored: false,
  title: "",
  prices: "",
  grants: "",
  limits: "",
  features: "",
  discount: "0",
  markup: "0",
  order: "0",
  hidden: false,
  byAgreement: false,
  withdrawn: false,
};

export function planRows({ plans }: PlansDocument): PlanRow[] {
  return plans.map((plan, id) => ({
    id,
    name: plan.name,
    stored: true,
    title: plan.title,
    prices: plan.prices.map(priceLine).join("\n"),
    grants: plan.grants.map(grantLine).join("\n"),
    limits: plan.default_limits.map(limitLine).join("\n"),
    features: plan.features.join("\n"),
    discount: plan.purchase_discount_percent,
    markup: plan.markup_percent,
    order: String(plan.order),
    hidden: plan.visibility === "hidden",
    byAgreement: plan.by_agreement,
    withdrawn: plan.withdrawn,
  }));
}

export function parsePlans(rows: PlanRow[]): Parsed<PlansDocument> {
  const errors: Errors = {};
  const plans = rows.map((row, index): PlanDocument => {
    const order = readWhole(row.order, PLAN_ORDER);
    const listOf = <Item,>(field: keyof typeof EXAMPLES, parse: (line: string) => Item | null): Item[] => {
      const items = linesOf(row[field]).map(parse);
      const wrong = items.indexOf(null);
      if (wrong >= 0) errors[`${index}.${field}`] = `Line ${wrong + 1}: write it as ${EXAMPLES[field]}`;
      return items.filter((item) => item !== null);
    };
    if (!SLUG.test(row.name)) errors[`${index}.name`] = "Use lowercase letters, digits and _, beginning with a letter";
    else if (rows.findIndex(({ name }) => name === row.name) < index) errors[`${index}.name`] = "This name is already used";
    if (row.title.trim() === "") errors[`${index}.title`] = "Enter a title";
    if (!isPercent(row.discount, 0, 99)) errors[`${index}.discount`] = "Enter a percentage from 0 to 99";
    if (!isPercent(row.markup, -100, 100_000)) errors[`${index}.markup`] = "Enter a percentage from -100 to 100000";
    if (order.problem !== null) errors[`${index}.order`] = order.problem;
    return {
      name: row.name,
      title: row.title.trim(),
      prices: listOf("prices", parsePrice),
      by_agreement: row.byAgreement,
      grants: listOf("grants", parseGrant),
      purchase_discount_percent: row.discount,
      markup_percent: row.markup,
      default_limits: listOf("limits", parseLimit),
      features: linesOf(row.features),
      order: order.value ?? 0,
      visibility: row.hidden ? "hidden" : "public",
      withdrawn: row.withdrawn,
    };
  });
  return Object.keys(errors).length === 0 ? { document: { plans }, errors: null } : { document: null, errors };
}

/** "Standard; month 20.00 USD; grants 25.00 USD month never; 10 % off purchases" */
export function planSentence(plan: PlanDocument): string {
  const parts = [
    plan.title,
    ...plan.prices.map(priceLine),
    plan.by_agreement ? "by agreement" : null,
    ...plan.grants.map((grant) => `grants ${grantLine(grant)}`),
    plan.purchase_discount_percent === "0" ? null : `${plan.purchase_discount_percent} % off purchases`,
    plan.markup_percent === "0" ? null : `${plan.markup_percent} % markup`,
    ...plan.default_limits.map((limit) => `limit ${limitLine(limit)}`),
    ...plan.features.map((feature) => `“${feature}”`),
    plan.order === 0 ? null : `order ${plan.order}`,
    plan.visibility === "hidden" ? "hidden" : null,
    plan.withdrawn ? "withdrawn" : null,
  ];
  return parts.filter((part) => part !== null).join("; ");
}

/** "20.00 USD a month, 200.00 USD a year" */
export function pricesOf({ prices, by_agreement }: Pick<PlanDocument, "prices" | "by_agreement">): string {
  if (prices.length === 0) return by_agreement ? "By agreement" : "Free";
  return prices.map(({ amount_minor, currency, interval }) => `${formatMoney(amount_minor, currency)} a ${interval}`).join(", ");
}

function linesOf(text: string): string[] {
  return text
    .split("\n")
    .map((line) => line.trim().replaceAll(/\s+/g, " "))
    .filter((line) => line !== "");
}

function isPercent(text: string, least: number, most: number): boolean {
  return PERCENT.test(text) && Number(text) >= least && Number(text) <= most;
}

function priceLine({ interval, amount_minor, currency, stripe_price_live: live, stripe_price_test: test }: Price): string {
  const ids = [live == null ? "" : ` live=${live}`, test == null ? "" : ` test=${test}`];
  return `${interval} ${moneyInput(amount_minor, currency)} ${currency}${ids.join("")}`;
}

function parsePrice(line: string): Price | null {
  const [, interval, amount = "", currency = "", live = null, test = null] = PRICE.exec(line) ?? [];
  const minor = interval === undefined ? null : parseMoney(amount, currency);
  if (minor === null || minor < 1) return null;
  return { interval: interval as Price["interval"], currency, amount_minor: minor, stripe_price_live: live, stripe_price_test: test };
}

function grantLine({ unit, currency, amount, cadence, expires, expires_after_days: days, rollover, rollover_up_to: upTo }: Grant): string {
  const expiry = expires === "after_days" ? `after_days=${days}` : expires;
  const carried = rollover === "all" ? " rollover=all" : rollover === "up_to" ? ` rollover=${upTo}` : "";
  return `${amount} ${unit === "money" ? currency : "credits"} ${cadence} ${expiry}${carried}`;
}

function parseGrant(line: string): Grant | null {
  const found = GRANT.exec(line);
  if (found === null) return null;
  const [, amount = "", unit = "", cadence, expires, days, carried] = found;
  const isMoney = unit !== "credits";
  return {
    unit: isMoney ? "money" : "credit",
    currency: isMoney ? unit : null,
    amount,
    cadence: cadence as Grant["cadence"],
    expires: days === undefined ? (expires as Grant["expires"]) : "after_days",
    expires_after_days: days === undefined ? null : Number(days),
    rollover: carried === undefined ? "none" : carried === "all" ? "all" : "up_to",
    rollover_up_to: carried === undefined || carried === "all" ? null : carried,
  };
}

function limitLine({ scope, scope_value: value, window, unit, amount, action }: Limit): string {
  const of = value == null ? "account" : `${scope}:${encodeURIComponent(value)}`;
  return `${of} ${window} ${amount} ${unit} ${action}`;
}

function parseLimit(line: string): Limit | null {
  const found = LIMIT.exec(line);
  if (found === null) return null;
  const [, , scope = "account", value, window, amount = "", unit = "", action] = found;
  return {
    scope: scope as Limit["scope"],
    scope_value: value === undefined ? null : decodeURIComponent(value),
    window: window as Limit["window"],
    unit,
    amount,
    action: action as Limit["action"],
  };
}
