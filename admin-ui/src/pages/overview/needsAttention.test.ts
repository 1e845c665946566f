import { expect, it } from "vitest";

import type { System } from "../../api/models";
import { needsOf } from "./needsAttention";

const NOW = "2026-11-21T10:00:00Z";
const HEALTHY: System = {
  version: "1",
  now: NOW,
  database: "17",
  migration: "1",
  worker_seen_at: NOW,
  queue: { waiting: 3, failed: 0, oldest_waiting_at: null },
  webhooks: [],
  ledger: { ok: true, problem: null, accounts: 1, entries: 1, finished_at: NOW },
  replica: null,
  paid_but_not_credited: 0,
  for_review: 0,
};

it("needs no attention without problems, also before the first ledger verification", () => {
  expect(needsOf(HEALTHY, 0)).toEqual([]);
  expect(needsOf({ ...HEALTHY, ledger: null }, 0)).toEqual([]);
});

it("lists problems, the worst first, with links", () => {
  const ledger = { ok: false, problem: "off by one", accounts: 1, entries: 1, finished_at: NOW };
  const queue = { waiting: 0, failed: 2, oldest_waiting_at: null };
  const needs = needsOf({ ...HEALTHY, ledger, queue, paid_but_not_credited: 1, for_review: 2, worker_seen_at: null }, 1);
  expect(needs.map(({ text }) => text)).toEqual([
    "The ledger is not balanced",
    "1 purchase paid but not credited",
    "2 purchases for review",
    "2 failed jobs",
    "The worker is not running",
    "1 open alert about unusual activity",
  ]);
  expect(needs[1]?.to).toBe("/purchases?view=paid_not_credited");
});
