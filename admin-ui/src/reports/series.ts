/**
 * `beside`: grouped bars, for values that must not be summed, such as amounts in several currencies. `multiples`: one
 * chart with its own scale per series, for series of different magnitude.
 */
export type ChartKind = "line" | "multiples" | "stacked" | "beside";

/** One line, or one segment of each bar. */
export interface Series<Row> {
  name: string;
  color: string;
  /** The drawn height. */
  valueOf: (row: Row) => number;
  /** The exact value as text. */
  textOf: (row: Row) => string;
}
