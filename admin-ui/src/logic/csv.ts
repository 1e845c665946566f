/** Tables as files that spreadsheets open. */

export type Cell = string | number | null;

/** RFC 4180, with a byte order mark so that spreadsheets read UTF-8. */
export function toCsv(names: string[], rows: Cell[][]): string {
  return `\ufeff${[names, ...rows].map((row) => row.map(field).join(",")).join("\r\n")}\r\n`;
}

function field(cell: Cell): string {
  if (cell === null) return "";
  const text = harmless(String(cell));
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** A text that somebody else chose may look like a formula: an apostrophe makes it a text. Numbers stay numbers. */
function harmless(text: string): string {
  return /^[=+\-@\t\r]/.test(text) && !/^-?\d+(\.\d+)?$/.test(text) ? `'${text}` : text;
}

/** "analytics-agents-live-2026-11-01-2026-11-21.csv" */
export function csvName(...parts: string[]): string {
  return `${parts.join("-").toLowerCase().replaceAll(/[^a-z0-9-]+/g, "-")}.csv`;
}
