/** Filters live in the address, so that a reload or a link shows the same list. */

/** One of `allowed`, or null: whatever else stands in an address is as good as nothing. */
export function oneOf<T extends string>(value: string | null, allowed: readonly T[]): T | null {
  return allowed.find((one) => one === value) ?? null;
}

export function someOf<T extends string>(values: string[], allowed: readonly T[]): T[] {
  return allowed.filter((one) => values.includes(one));
}

/** The keys of a table of labels, as the type that it is keyed by. */
export function keysOf<T extends string>(labels: Record<T, string>): T[] {
  return Object.keys(labels) as T[];
}

const AROUND = /^[\s\p{Cc}\p{Cf}\p{Z}]+|[\s\p{Cc}\p{Cf}\p{Z}]+$/gu;

/** A pasted text without the blanks, line breaks and invisible signs around it. */
export function trimmed(text: string): string {
  return text.replaceAll(AROUND, "");
}

/** The same address with one filter changed, on the first page again: a cursor belongs to its filters. */
export function withFilter(params: URLSearchParams, name: string, value: string | string[] | null): URLSearchParams {
  const next = new URLSearchParams(params);
  next.delete("cursor");
  next.delete(name);
  for (const one of Array.isArray(value) ? value : [value]) {
    if (one !== null && trimmed(one) !== "") next.append(name, trimmed(one));
  }
  return next;
}

export function withCursor(params: URLSearchParams, cursor: string | null): URLSearchParams {
  const next = new URLSearchParams(params);
  if (cursor === null) next.delete("cursor");
  else next.set("cursor", cursor);
  return next;
}

/** A path with those values in its query that are there. */
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
