import type { System } from "../../api/models";
import { formatCount } from "../../logic/format";
import { workerState } from "../../logic/system";

export interface Need {
  text: string;
  /** The page on which to resolve it. */
  to: string;
}

/** Return the problems that need an admin, the worst first. `alerts` is the number of open alerts. */
export function needsOf(system: System, alerts: number): Need[] {
  const { paid_but_not_credited: unpaid, for_review: review, queue, ledger } = system;
  const needs: (Need | null)[] = [
    ledger !== null && !ledger.ok ? { text: "The ledger is not balanced", to: "/system" } : null,
    unpaid > 0 ? { text: `${formatCount(unpaid, "purchase")} paid but not credited`, to: "/purchases?view=paid_not_credited" } : null,
    review > 0 ? { text: `${formatCount(review, "purchase")} for review`, to: "/purchases?view=for_review" } : null,
    queue.failed > 0 ? { text: formatCount(queue.failed, "failed job"), to: "/system" } : null,
    workerState(system.worker_seen_at, system.now).tone === "bad" ? { text: "The worker is not running", to: "/system" } : null,
    alerts > 0 ? { text: `${formatCount(alerts, "open alert")} about unusual activity`, to: "/alerts?status=open" } : null,
  ];
  return needs.filter((need) => need !== null);
}
