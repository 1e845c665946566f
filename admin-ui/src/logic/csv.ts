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

/**
 * A text that a customer chose may be a formula to a spreadsheet: an apostrophe makes it a text. Numbers stay numbers.
 * The same rule as the service's (app/admin/csv_export.py); tests/admin/csv_cells.json holds both to it.
 */
function harmless(text: string): string {
  return isFormula(text) ? `'${text}` : text;
}

/** Blanks and controls before its first sign do not hide a formula, nor do wide forms of that sign. */
function isFormula(text: string): boolean {
  if (/^-?[0-9]+(\.[0-9]+)?$/.test(text)) return false;
  if (/^[\t\r\n]/.test(text)) return true;
  const [shown = ""] = text.replace(/^[\s\p{Cc}\p{Cf}]+/u, "");
  return shown !== "" && "=+-@\u2212".includes(shown.normalize("NFKC"));
}

/** "analytics-agents-live-2026-11-01-2026-11-21.csv" */
export function csvName(...parts: string[]): string {
  return `${parts.join("-").toLowerCase().replaceAll(/[^a-z0-9-]+/g, "-")}.csv`;
}
