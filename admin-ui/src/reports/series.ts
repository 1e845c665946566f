/** Bars stand beside each other where their sum means nothing: amounts of several currencies. */
export type ChartKind = "line" | "stacked" | "beside";

/** One line, or one part of each bar. */
export interface Series<Row> {
  name: string;
  color: string;
  /** How high it is drawn. */
  valueOf: (row: Row) => number;
  /** What is said about it, exactly. */
  textOf: (row: Row) => string;
}
