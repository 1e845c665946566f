/** CSV export for spreadsheets. */

export type Cell = string | number | null;

/** RFC 4180, with a byte order mark so that spreadsheets read UTF-8. */
export function toCsv(names: string[], rows: Cell[][]): string {
  return `\ufeff${[names, ...rows].map((row) => row.map(field).join(",")).join("\r\n")}\r\n`;
}

function field(cell: Cell): string {
  if (cell === null) return "";
  const text = escapeFormula(String(cell));
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/**
 * Prefix text that a spreadsheet would evaluate as a formula with an apostrophe. Numbers are unchanged.
 * The service has the same rule (app/admin/csv_export.py); tests/admin/csv_cells.json tests both.
 */
function escapeFormula(text: string): string {
  return isFormula(text) ? `'${text}` : text;
}

/** Leading blanks and control characters do not hide a formula, nor do full-width forms of its first character. */
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
