import { describe, expect, it } from "vitest";

import type { RunReceipt } from "../api/models";
import { amountsText, budgetPercent, callName, outcomeName, rowsOf } from "./runs";

const CREDITS = (credits: number) => ({ amount_minor: credits * 100, amount: null });
const MONEY = (amount: string) => ({ amount_minor: null, amount });

describe("runs", () => {
  it.each([
    [{ amount_minor: 300, amount: "0.250000" }, "3 credits and 0.25 USD"],
    [{ amount_minor: 100, amount: "0" }, "1 credit"],
    [{ amount_minor: 0, amount: "0.000400" }, "0.0004 USD"],
    [{ amount_minor: 0, amount: "0" }, "0 credits"],
    [MONEY("0.00"), "0.00 USD"],
  ])("formats %j as %s", (amounts, text) => {
    expect(amountsText(amounts, "USD")).toBe(text);
  });

  it.each([
    [CREDITS(10), CREDITS(7.5), 25],
    [CREDITS(0), CREDITS(0), 100],
    [MONEY("2.00"), MONEY("0.00"), 100],
    [null, null, null],
  ])("shows a budget of %j with %j left as %s percent", (budget, remaining, percent) => {
    expect(budgetPercent({ budget, remaining })).toBe(percent);
  });

  it("names calls and outcomes", () => {
    expect(callName({ kind: "tool_charge", agent_id: "scout", tool: "web_search", model: null })).toBe(
      "Tool charge · agent scout · web_search",
    );
    expect(outcomeName({ outcome: "charged", calls: 2, attempts: 2 })).toBe("Charged");
    expect(outcomeName({ outcome: "refused", calls: 1, attempts: 3 })).toBe("Refused, sent 3 times");
  });

  it("lists a tree with its levels, parents before children", () => {
    const run = (run_id: string, ...runs: unknown[]) => ({ run_id, runs }) as unknown as RunReceipt;
    const rows = rowsOf(run("a", run("b", run("c")), run("d")));
    expect(rows.map(({ receipt, level }) => [receipt.run_id, level])).toEqual([["a", 0], ["b", 1], ["c", 2], ["d", 1]]);
  });
});
