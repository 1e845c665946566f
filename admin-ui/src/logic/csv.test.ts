import { readFileSync } from "node:fs";

import { describe, expect, it } from "vitest";

import { csvName, toCsv } from "./csv";

describe("a CSV file", () => {
  it("quotes cells with separators, quotes and line breaks", () => {
    expect(toCsv(["name", "uses"], [['a "b", c', 3], ["line\nbreak", null]])).toBe(
      '\ufeffname,uses\r\n"a ""b"", c",3\r\n"line\nbreak",\r\n',
    );
  });

  it("escapes formulas, and keeps numbers", () => {
    const [, row] = toCsv(["a"], [["=1+1", "@x", "-2+3", "-5.25", -5]]).split("\r\n");
    expect(row).toBe("'=1+1,'@x,'-2+3,-5.25,-5");
  });

  it.each(JSON.parse(readFileSync("../tests/admin/csv_cells.json", "utf8")) as [string, string][])(
    "writes %j as the service does",
    (value, cell) => {
      const quoted = /[",\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell;
      expect(toCsv(["a"], [[value]])).toBe(`\ufeffa\r\n${quoted}\r\n`);
    },
  );

  it("is named by its contents", () => {
    expect(csvName("Top users", "live", "2026-11-01")).toBe("top-users-live-2026-11-01.csv");
  });
});
