import { describe, expect, it } from "vitest";

import { setCurrencies } from "./currencies";
import { EXAMPLES } from "./currencies.examples";
import {
  defaultsDraft,
  factsOf,
  moved,
  packRows,
  packSentence,
  parseDefaults,
  parsePacks,
  parseProducts,
  productRows,
  productSentence,
  unusualDefaults,
  unusualPacks,
  unusualProducts,
} from "./configuration";

const STANDARD = { name: "standard", price_minor: 500, currency: "USD", credits: 20 };
const SEARCH = { name: "web_search", price_credits: 1, initial_free: 10, daily_free: 3, free_cap: null };

setCurrencies(EXAMPLES);

describe("packs", () => {
  it("round-trip through the form", () => {
    const packs = [STANDARD, { name: "yen", price_minor: 800, currency: "JPY", credits: 30 }];
    expect(parsePacks(packRows(packs))).toEqual({ document: { packs }, errors: null });
  });

  it("are rejected for prices and currencies that the provider rejects", () => {
    const problemsOf = (price: string, currency: string) => {
      const { errors } = parsePacks([{ id: 0, name: "a", price, currency, credits: "1" }]);
      return errors === null ? [] : Object.entries(errors).map(([field, problem]) => `${field}: ${problem}`);
    };
    expect(problemsOf("1.505", "KWD")).toEqual(["0.price: Stripe only accepts multiples of 0.010 KWD"]);
    expect(problemsOf("1.50", "ISK")).toEqual(["0.price: Stripe only accepts multiples of 1.00 ISK"]);
    expect(problemsOf("0.01", "USD")).toEqual(["0.price: Stripe's minimum is 0.50 USD"]);
    expect(problemsOf("5.00", "ZZZ")).toEqual(["0.currency: Stripe does not support ZZZ"]);
    for (const [price, currency] of [["1.510", "KWD"], ["1.00", "ISK"], ["0.50", "USD"], ["175.00", "HUF"]] as const) {
      expect(problemsOf(price, currency)).toEqual([]);
    }
    expect(parseDefaults({ freeUses: "0", dailyFreeUses: "0", planName: "free", currency: "ZZZ" }).errors).toEqual({
      currency: "Stripe does not support ZZZ",
    });
  });

  it("have errors by row and field", () => {
    const rows = packRows([STANDARD, STANDARD]).map((row) =>
      row.id === 1 ? { ...row, price: "0.00", currency: "usd", credits: "0" } : row,
    );
    expect(parsePacks(rows)).toEqual({
      document: null,
      errors: {
        "1.name": "This name is already used",
        "1.price": "Enter a price such as 5.00",
        "1.currency": "Enter three letters, such as USD",
        "1.credits": "At least 1",
      },
    });
    expect(parsePacks([]).errors).toEqual({ form: "Add at least one pack" });
  });

  it("are described in a sentence", () => {
    expect(packSentence(STANDARD)).toBe("5.00 USD for 20 credits, 0.25 USD each");
    expect(packSentence({ price_minor: 99, currency: "EUR", credits: 1 })).toBe("0.99 EUR for 1 credit");
  });
});

describe("products", () => {
  it("round-trip through the form, also without a cap", () => {
    const products = [SEARCH, { ...SEARCH, name: "image_gen", free_cap: 0 }];
    expect(parseProducts(productRows(products))).toEqual({ document: { products }, errors: null });
    expect(parseProducts([]).document).toEqual({ products: [] });
  });

  it("have errors by row and field", () => {
    const rows = productRows([SEARCH]).map((row) => ({ ...row, name: "Web", price: "", cap: "1.5" }));
    expect(Object.keys(parseProducts(rows).errors ?? {})).toEqual(["0.name", "0.price", "0.cap"]);
  });

  it("are described in a sentence", () => {
    expect(productSentence(SEARCH)).toBe("1 credit per use; 10 free initially, 3 more per day, up to 13");
    expect(productSentence({ price_credits: 10, initial_free: 0, daily_free: 0 })).toBe("10 credits per use, no free uses");
  });
});

describe("defaults", () => {
  const defaults = { free_uses: 3, daily_free_uses: 0, plan_name: "free", currency: "USD" };

  it("round-trip through the form", () => {
    expect(parseDefaults(defaultsDraft(defaults))).toEqual({ document: defaults, errors: null });
  });

  it("have errors by field", () => {
    const draft = { freeUses: "-1", dailyFreeUses: "", planName: " ", currency: "US" };
    expect(Object.keys(parseDefaults(draft).errors ?? {})).toEqual(["freeUses", "dailyFreeUses", "planName", "currency"]);
  });
});

describe("documents", () => {
  it("become facts for comparison", () => {
    expect(factsOf({ packs: [STANDARD] })).toEqual({
      default_pack: "standard",
      order: ["standard"],
      "pack standard": "5.00 USD for 20 credits, 0.25 USD each",
    });
    expect(factsOf({ products: [] })).toEqual({});
    expect(factsOf({ free_uses: 3 })).toEqual({ free_uses: 3 });
    expect(factsOf(null)).toEqual({});
  });
});

describe("rows", () => {
  it("move by a position, and stay in the list", () => {
    expect(moved(["a", "b", "c"], 1, -1)).toEqual(["b", "a", "c"]);
    expect(moved(["a", "b", "c"], 2, 1)).toEqual(["a", "b", "c"]);
    expect(moved(["a", "b", "c"], 0, -1)).toEqual(["a", "b", "c"]);
  });

  it("keep the typed text, and parse nothing else", () => {
    for (const text of ["1.5", "-7", "0", "1e5", "1,000", "１２", " ", "12345678901234567890"]) {
      const [row] = packRows([STANDARD]).map((one) => ({ ...one, credits: text }));
      expect(row?.credits).toBe(text);
      expect(parsePacks(row === undefined ? [] : [row]).document).toBeNull();
    }
  });
});

describe("unusual amounts", () => {
  it("are marked when they change, and not when they stay", () => {
    const large = { ...STANDARD, credits: 2_000_000, price_minor: 50_000_000 };
    expect(unusualPacks({ packs: [large] }, { packs: [STANDARD] })).toBe("2,000,000 credits and 500,000.00 USD");
    expect(unusualPacks({ packs: [large] }, { packs: [large] })).toBeNull();
    expect(unusualPacks({ packs: [STANDARD] }, { packs: [] })).toBeNull();
    expect(unusualProducts({ products: [{ ...SEARCH, price_credits: 5000 }] }, { products: [SEARCH] })).toBe("5,000 credits per use");
    const defaults = { free_uses: 3, daily_free_uses: 0, plan_name: "free", currency: "USD" };
    expect(unusualDefaults({ ...defaults, free_uses: 30_000 }, defaults)).toBe("30,000 free credits");
    expect(unusualDefaults(defaults, defaults)).toBeNull();
  });
});
