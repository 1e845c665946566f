import type { System } from "../api/models";
import type { Tone } from "../components/Tag";

const ALIVE_MS = 60_000;

/** Return whether the worker is running, by its last heartbeat and the server's clock. */
export function workerState(seenAt: string | null, now: string): { tone: Tone; label: string } {
  if (seenAt === null) return { tone: "bad", label: "Worker never started" };
  const silence = new Date(now).getTime() - new Date(seenAt).getTime();
  return silence <= ALIVE_MS ? { tone: "good", label: "Worker running" } : { tone: "bad", label: "Worker not responding" };
}

/** Describe the read replica; null: none is configured. */
export function replicaState(replica: System["replica"]): string | null {
  if (replica === null) return null;
  const age = replica.lag_s === null ? "lag unknown" : `${replica.lag_s.toFixed(1)} s behind`;
  return replica.in_use ? `In use, ${age}` : `Not in use: ${age}. Reports use the primary`;
}
