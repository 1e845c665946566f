import type { Tone } from "../components/Tag";

const ALIVE_MS = 60_000;

/** Whether the worker lives, by its last sign of life and the server's clock. */
export function workerState(seenAt: string | null, now: string): { tone: Tone; label: string } {
  if (seenAt === null) return { tone: "bad", label: "Worker never seen" };
  const silence = new Date(now).getTime() - new Date(seenAt).getTime();
  return silence <= ALIVE_MS ? { tone: "good", label: "Worker runs" } : { tone: "bad", label: "Worker is silent" };
}
