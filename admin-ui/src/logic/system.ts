import type { System } from "../api/models";
import type { Tone } from "../components/Tag";

const ALIVE_MS = 60_000;

/** Whether the worker lives, by its last sign of life and the server's clock. */
export function workerState(seenAt: string | null, now: string): { tone: Tone; label: string } {
  if (seenAt === null) return { tone: "bad", label: "Worker never seen" };
  const silence = new Date(now).getTime() - new Date(seenAt).getTime();
  return silence <= ALIVE_MS ? { tone: "good", label: "Worker runs" } : { tone: "bad", label: "Worker is silent" };
}

/** Where lists and reports come from; null: there is no replica to speak of. */
export function replicaState(replica: System["replica"]): string | null {
  if (replica === null) return null;
  const age = replica.lag_s === null ? "of unknown age" : `${replica.lag_s.toFixed(1)} s behind`;
  return replica.in_use ? `In use, ${age}` : `Not used: ${age}. Reports come from the primary`;
}
