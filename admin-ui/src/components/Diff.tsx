import { diff, type Facts } from "../logic/diff";
import { humanize } from "../logic/format";
import classes from "./Diff.module.css";

interface Props {
  before: Facts | null;
  after: Facts | null;
  /** Highlight removed values as removals. */
  removals?: boolean;
}

/** The changed fields, one per line: before → after. */
export function Diff({ before, after, removals = false }: Props) {
  const lines = diff(before, after).filter(({ change }) => change !== "same");
  if (lines.length === 0) return null;
  const gone = removals ? classes.removed : classes.was;
  return (
    <dl className={classes.diff}>
      {lines.map((line) => (
        <div key={line.name} className={classes.line}>
          <dt className={classes.name}>{humanize(line.name)}</dt>
          <dd className={classes.values}>
            {line.before !== null && <del className={line.after === null ? gone : classes.before}>{line.before}</del>}
            {line.before !== null && line.after !== null && <span aria-hidden> → </span>}
            {line.after !== null && <ins className={classes.after}>{line.after}</ins>}
          </dd>
        </div>
      ))}
    </dl>
  );
}
