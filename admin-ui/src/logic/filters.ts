/** Filters are stored in the URL, so that a reload or a link shows the same list. */

/** Return the value if it is in `allowed`, else null: unknown values in the URL are ignored. */
export function oneOf<T extends string>(value: string | null, allowed: readonly T[]): T | null {
  return allowed.find((one) => one === value) ?? null;
}

export function someOf<T extends string>(values: string[], allowed: readonly T[]): T[] {
  return allowed.filter((one) => values.includes(one));
}

/** Return the keys of a table of labels, typed. */
export function keysOf<T extends string>(labels: Record<T, string>): T[] {
  return Object.keys(labels) as T[];
}

const AROUND = /^[\s\p{Cc}\p{Cf}\p{Z}]+|[\s\p{Cc}\p{Cf}\p{Z}]+$/gu;

/** Remove blanks, line breaks and invisible characters around pasted text. */
export function trimmed(text: string): string {
  return text.replaceAll(AROUND, "");
}

/** Change one filter and return to the first page: a cursor is only valid for its filters. */
export function withFilter(params: URLSearchParams, name: string, value: string | string[] | null): URLSearchParams {
  const next = new URLSearchParams(params);
  next.delete("cursor");
  next.delete(name);
  for (const one of Array.isArray(value) ? value : [value]) {
    if (one !== null && trimmed(one) !== "") next.append(name, trimmed(one));
  }
  return next;
}

/** Whether the URL has filters beside those to `keep`. */
export function isFiltered(params: URLSearchParams, keep: readonly string[] = []): boolean {
  return [...params.keys()].some((name) => name !== "cursor" && !keep.includes(name));
}

export function onlyKept(params: URLSearchParams, keep: readonly string[]): URLSearchParams {
  return new URLSearchParams([...params].filter(([name]) => keep.includes(name)));
}

export function withCursor(params: URLSearchParams, cursor: string | null): URLSearchParams {
  const next = new URLSearchParams(params);
  if (cursor === null) next.delete("cursor");
  else next.set("cursor", cursor);
  return next;
}

/** Return a path with a query of the non-empty values. */
export function pathWith(path: string, values: Record<string, string | null | undefined>): string {
  const params = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    if (value !== null && value !== undefined && value !== "") params.set(name, value);
  }
  const query = params.toString();
  return query === "" ? path : `${path}?${query}`;
}

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

export function isUuid(text: string): boolean {
  return UUID.test(trimmed(text));
}
