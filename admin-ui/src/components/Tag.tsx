import type { ReactNode } from "react";

import classes from "./Tag.module.css";

export type Tone = "good" | "bad" | "warn" | "info" | "quiet";

/** A status label. Its colour only repeats what its text states. */
export function Tag({ tone, children }: { tone: Tone; children: ReactNode }) {
  return (
    <span className={classes.tag} data-tone={tone}>
      {children}
    </span>
  );
}
