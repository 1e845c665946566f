import type { ReactNode } from "react";

import classes from "./Facts.module.css";

/** Names and values, one per line. A null value hides its line; an undefined value is shown as "—" (unknown). */
export function Facts({ facts }: { facts: [string, ReactNode][] }) {
  return (
    <dl className={classes.facts}>
      {facts
        .filter(([, value]) => value !== null)
        .map(([name, value]) => (
          <div key={name} className={classes.fact}>
            <dt className={classes.name}>{name}</dt>
            <dd className={classes.value}>{value ?? "—"}</dd>
          </div>
        ))}
    </dl>
  );
}
