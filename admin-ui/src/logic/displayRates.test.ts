import { describe, expect, it } from "vitest";

import { factsOf } from "./configuration";
import { parseRates, rateRows, rateSentence } from "./displayRates";

const HRYVNIA = { base: "USD", quote: "UAH", rate: "41.52", as_of: "2026-12-01T00:00:37Z", source: "NBU" };
const EURO = { ...HRYVNIA, quote: "EUR", rate: "0.9" };

describe("display rates", () => {
  it("round-trip through the form, with the seconds of their times", () => {
    const rates = [HRYVNIA, EURO];
    expect(parseRates(rateRows({ rates }))).toEqual({ document: { rates }, errors: null });
    expect(parseRates([]).document).toEqual({ rates: [] });
  });

  it("have the typed time once it is changed", () => {
    const rows = rateRows({ rates: [HRYVNIA] }).map((row) => ({ ...row, asOf: "2026-12-02T10:00" }));
    expect(parseRates(rows).document?.rates[0]?.as_of).toBe(new Date("2026-12-02T10:00").toISOString());
  });

  it("have errors by row and field", () => {
    const wrong = { id: 0, base: "usd", quote: "", rate: "1,5", asOf: "", stored: null, source: " " };
    expect(Object.keys(parseRates([wrong]).errors ?? {})).toEqual(["0.base", "0.quote", "0.rate", "0.asOf", "0.source"]);
    expect(parseRates(rateRows({ rates: [HRYVNIA, HRYVNIA] })).errors).toEqual({ "1.quote": "This pair already has a rate" });
  });

  it.each(["0", "0.000", "", "-1", "1e3", "1.", "1234567890", "1.1234567890", "NaN"])("refuse the rate %j", (rate) => {
    const rows = rateRows({ rates: [HRYVNIA] }).map((row) => ({ ...row, rate }));
    expect(parseRates(rows).errors).toEqual({ "0.rate": "Enter a number above 0, such as 41.52" });
  });

  it("are described in a sentence, and become facts for comparison", () => {
    expect(rateSentence(HRYVNIA, "UTC")).toBe("1 USD is 41.52 UAH (NBU, 1 Dec 2026, 00:00)");
    expect(factsOf({ rates: [HRYVNIA, EURO] })).toEqual({ "rate USD/UAH": rateSentence(HRYVNIA), "rate USD/EUR": rateSentence(EURO) });
  });
});
