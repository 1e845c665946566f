import { expect, test } from "vitest";

import { approvalStatus, limitAmount, refusedBy, requesterOf } from "./approvals";

const LIMIT = { scope: "account", scope_value: null, window: "day", unit: "USD", amount: "10.000000" } as const;
const NOBODY = { agent_id: null, model: null, tool: null, run_id: null, key_id: null };

test.each([
  ["1", "credits", "1 credit"],
  ["2500", "credits", "2,500 credits"],
  ["1", "uses", "1 use"],
  ["0.500000", "USD", "0.50 USD"],
])("formats %s %s as %s", (amount, unit, text) => {
  expect(limitAmount(amount, unit)).toBe(text);
});

test("describes a limit by its amount, window and scope", () => {
  expect(refusedBy({ kind: "limit", limit: LIMIT, refused_run_id: null })).toBe("limit of 10.00 USD a day");
  const limit = { ...LIMIT, scope: "agent", scope_value: "scout", window: "lifetime" } as const;
  expect(refusedBy({ kind: "limit", limit, refused_run_id: null })).toBe("limit of 10.00 USD in all of agent scout");
});

test("names the run that refused", () => {
  expect(refusedBy({ kind: "resume", limit: null, refused_run_id: "r" })).toBe("paused run r");
  expect(refusedBy({ kind: "budget", limit: null, refused_run_id: null })).toBe("budget of run (erased)");
});

test("names all that is known of the requester", () => {
  expect(requesterOf({ ...NOBODY, agent_id: "scout", tool: "painter" })).toBe("agent scout · tool painter");
  expect(requesterOf(NOBODY)).toBe("unknown");
});

test("says of a pending approval that it waits", () => {
  expect(approvalStatus({ status: "pending" })).toBe("Waits");
  expect(approvalStatus({ status: "expired" })).toBe("Expired");
});
