import type { ReactNode } from "react";

import classes from "./Tag.module.css";

export type Tone = "good" | "bad" | "warn" | "info" | "quiet";

/** A state in a word; its colour never tells what the word does not. */
export function Tag({ tone, children }: { tone: Tone; children: ReactNode }) {
  return (
    <span className={classes.tag} data-tone={tone}>
      {children}
    </span>
  );
}
