import { expect, it } from "vitest";

import type { ApiKey, UserRow } from "../api/models";
import { hitsOf, keysThatMatch, type Found } from "./hits";

const NOTHING: Found = { users: [], purchases: [], keys: [], alerts: [] };
const PAGES = [{ id: "/alerts", label: "Alerts", path: "/alerts" }];
const user = (account_id: string, display_name: string) =>
  ({ account_id, display_name, customer_email: null, external_id: null, environment: "live", status: "active", paid: 1 }) as UserRow;
const key = (key_id: string, name: string) => ({ key_id, name, environment: "live", status: "active" }) as ApiKey;

it("lists users first, exact matches before the others", () => {
  const users = [user("1", "Anna Maria"), user("2", "J\u00fcrgen"), user("3", "ANNA")];
  const [first] = hitsOf("anna", { ...NOTHING, users }, PAGES);
  expect(first?.group).toBe("Users");
  expect(first?.hits.map(({ path }) => path)).toEqual(["/users/3", "/users/1", "/users/2", "/users?search=anna"]);
});

it("leaves out empty groups, so that the first hit is in the first group", () => {
  const groups = hitsOf("agent", { ...NOTHING, keys: [key("abc", "Agent 7")] }, PAGES);
  expect(groups.map(({ group }) => group)).toEqual(["API keys", "Pages"]);
  expect(groups[0]?.hits[0]?.path).toBe("/api-keys?search=abc");
  expect(hitsOf("alerts", NOTHING, PAGES)[0]?.hits[0]?.path).toBe("/alerts");
  expect(hitsOf("x", undefined, [])).toEqual([]);
});

it("finds keys by id and by words in their name", () => {
  const keys = [key("abc123", "Agent 7"), key("def456", "Proxy of agents")];
  expect(keysThatMatch("abc", keys).map(({ key_id }) => key_id)).toEqual(["abc123"]);
  expect(keysThatMatch("cbk_live_abc", keys).map(({ key_id }) => key_id)).toEqual(["abc123"]);
  expect(keysThatMatch("AGENT 7", keys).map(({ key_id }) => key_id)).toEqual(["abc123"]);
  expect(keysThatMatch("zzz", keys)).toEqual([]);
});
