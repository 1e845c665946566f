import { describe, expect, it } from "vitest";

import { diff, flatten } from "./diff";

describe("diff", () => {
  it("lists each name once, with its change", () => {
    expect(diff({ paid: 5, status: "active", old: 1 }, { paid: 25, status: "active", credit_id: "c1" })).toEqual([
      { name: "paid", change: "changed", before: "5", after: "25" },
      { name: "status", change: "same", before: "active", after: "active" },
      { name: "old", change: "removed", before: "1", after: null },
      { name: "credit_id", change: "added", before: null, after: "c1" },
    ]);
  });

  it("shows empty values, lists and booleans as text", () => {
    expect(diff({ ips: [], disabled: false }, { ips: ["10.0.0.0/8", "::1/128"], disabled: true })).toEqual([
      { name: "ips", change: "changed", before: "none", after: "10.0.0.0/8, ::1/128" },
      { name: "disabled", change: "changed", before: "no", after: "yes" },
    ]);
    expect(diff(null, undefined)).toEqual([]);
  });
});

describe("flatten", () => {
  it("leaves out empty values and names nested ones by their path", () => {
    expect(flatten({ reason: null, metadata: { model: "m", usage: { calls: 2 } }, cost: 0 })).toEqual([
      ["metadata.model", "m"],
      ["metadata.usage.calls", "2"],
      ["cost", "0"],
    ]);
  });
});
