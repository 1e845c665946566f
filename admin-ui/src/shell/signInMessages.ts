import { pathWith } from "../logic/filters";

/** What the server says, in an address, of a sign-in that it refused. */
const REFUSALS: Record<string, string> = {
  not_an_admin: "That account may not come in here. Use your work account; another admin can invite it, or let it in again.",
  sign_in_failed: "Signing in did not work: it took too long, or was begun in another window. Try again.",
  sign_in_not_configured: "Signing in is not configured on this server.",
  rate_limited: "Too many tries from your address. Wait a minute.",
  busy: "Signing in did not work, because something did not answer in time. Try again in a moment.",
};
const REQUEST_ID = /^[\w-]{1,128}$/;

export interface Refusal {
  why: string;
  requestId: string | null;
}

/** Null: nothing was refused. The words are ours: an address can be written by anybody. */
export function refusalOf(search: string): Refusal | null {
  const params = new URLSearchParams(search);
  const code = params.get("refused");
  if (code === null) return null;
  const requestId = params.get("request") ?? "";
  return {
    why: (Object.hasOwn(REFUSALS, code) ? REFUSALS[code] : null) ?? "Signing in did not work.",
    requestId: REQUEST_ID.test(requestId) ? requestId : null,
  };
}

/** Where to sign in, so that one gets where one wanted to go. */
export function signInPath(pathname: string, search: string): string {
  const params = new URLSearchParams(search);
  if (params.has("refused")) ["refused", "request"].forEach((name) => params.delete(name));
  const query = params.toString();
  return pathWith("/admin/oauth/login", { return_to: query === "" ? pathname : `${pathname}?${query}` });
}
