import { describe, expect, it } from "vitest";

import { isFiltered, isUuid, onlyKept, oneOf, pathWith, someOf, withCursor, trimmed, withFilter } from "./filters";

const STATUSES = ["active", "closed"] as const;

describe("filters in the URL", () => {
  it("accept only known values", () => {
    expect(oneOf("closed", STATUSES)).toBe("closed");
    expect(oneOf("<script>", STATUSES)).toBeNull();
    expect(oneOf(null, STATUSES)).toBeNull();
    expect(someOf(["closed", "nonsense", "active"], STATUSES)).toEqual(["active", "closed"]);
  });

  it("are cleared without what the page shows", () => {
    const params = new URLSearchParams("tab=models&status=disputed&cursor=abc");
    expect([isFiltered(params), isFiltered(params, ["tab"]), isFiltered(params, ["tab", "status"])]).toEqual([true, true, false]);
    expect(onlyKept(params, ["tab", "view"]).toString()).toBe("tab=models");
    expect(isFiltered(new URLSearchParams("cursor=abc"))).toBe(false);
  });

  it("return to the first page when they change", () => {
    const params = new URLSearchParams("search=ann&cursor=abc");
    expect(withFilter(params, "status", "active").toString()).toBe("search=ann&status=active");
    expect(withFilter(params, "search", "").toString()).toBe("");
    expect(withFilter(params, "kind", ["a", "b"]).getAll("kind")).toEqual(["a", "b"]);
    expect(params.toString()).toBe("search=ann&cursor=abc");
  });

  it("stay when the page turns", () => {
    const second = withCursor(new URLSearchParams("search=ann"), "abc");
    expect(second.toString()).toBe("search=ann&cursor=abc");
    expect(withCursor(second, null).toString()).toBe("search=ann");
  });
});

describe("a path", () => {
  it("contains the non-empty values, encoded", () => {
    expect(pathWith("/users", { search: "a&b=c", status: null, plan: "" })).toBe("/users?search=a%26b%3Dc");
    expect(pathWith("/users", {})).toBe("/users");
  });

  it("knows an id", () => {
    expect(isUuid(" 0198c7f2-1111-7222-8333-444455556666 ")).toBe(true);
    expect(isUuid("ann@example.com")).toBe(false);
  });
});

it.each([" ", "\t", "\n", "\r\n", "\u00a0", "\u200b", "\ufeff", "\u2060", "\u3000", "\u2028"])("removes %j around pasted text", (blank) => {
  expect(trimmed(`${blank}ann smith${blank}${blank}`)).toBe("ann smith");
  expect(withFilter(new URLSearchParams(), "search", `${blank}ann`).get("search")).toBe("ann");
  expect(withFilter(new URLSearchParams("search=x"), "search", blank).has("search")).toBe(false);
});
