/**
 * Bars stand beside each other where their sum means nothing: amounts of several currencies. Multiples give each series
 * a chart with a scale of its own, where one scale would make the smaller ones look flat.
 */
export type ChartKind = "line" | "multiples" | "stacked" | "beside";

/** One line, or one part of each bar. */
export interface Series<Row> {
  name: string;
  color: string;
  /** How high it is drawn. */
  valueOf: (row: Row) => number;
  /** What is said about it, exactly. */
  textOf: (row: Row) => string;
}
