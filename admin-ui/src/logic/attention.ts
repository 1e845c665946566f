import type { System } from "../api/models";
import { formatNumber } from "./format";
import { workerState } from "./system";

export interface Need {
  text: string;
  /** Where to see to it. */
  to: string;
}

/** What an admin should look at now, the worst first. */
export function needsOf(system: System): Need[] {
  const { paid_but_not_credited: unpaid, for_review: review, queue, ledger } = system;
  const needs: (Need | null)[] = [
    ledger !== null && !ledger.ok ? { text: "The ledger does not add up", to: "/system" } : null,
    unpaid > 0 ? { text: `${purchases(unpaid)} paid but not credited`, to: "/purchases?view=paid_not_credited" } : null,
    review > 0 ? { text: `${purchases(review)} for review`, to: "/purchases?view=for_review" } : null,
    queue.failed > 0 ? { text: `${formatNumber(queue.failed)} failed ${queue.failed === 1 ? "job" : "jobs"}`, to: "/system" } : null,
    workerState(system.worker_seen_at, system.now).tone === "bad" ? { text: "The worker is not running", to: "/system" } : null,
  ];
  return needs.filter((need) => need !== null);
}

function purchases(count: number): string {
  return `${formatNumber(count)} ${count === 1 ? "purchase" : "purchases"}`;
}
