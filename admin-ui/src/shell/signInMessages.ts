import { pathWith } from "../logic/filters";

/** Messages by the code with which the server redirects after a refused sign-in. */
const REFUSALS: Record<string, string> = {
  not_an_admin: "This account has no access. Use your work account, or ask an admin to invite it or to enable it again.",
  sign_in_failed: "Sign-in state mismatch or expired. Start over.",
  sign_in_not_configured: "Sign-in is not configured on this server. Ask the operator to set it up.",
  rate_limited: "Too many attempts from your address. Try again in a minute.",
  busy: "Sign-in failed because a service did not respond in time. Try again in a moment.",
};
const REQUEST_ID = /^[\w-]{1,128}$/;

export interface Refusal {
  message: string;
  requestId: string | null;
}

/** Return why a sign-in was refused; null: it was not. Text from the URL is never shown, because anyone can write a URL. */
export function refusalOf(search: string): Refusal | null {
  const params = new URLSearchParams(search);
  const code = params.get("refused");
  if (code === null) return null;
  const requestId = params.get("request") ?? "";
  return {
    message: (Object.hasOwn(REFUSALS, code) ? REFUSALS[code] : null) ?? "Sign-in failed. Try again.",
    requestId: REQUEST_ID.test(requestId) ? requestId : null,
  };
}

/** Return the sign-in path, which leads back to the requested page. */
export function signInPath(pathname: string, search: string): string {
  const params = new URLSearchParams(search);
  if (params.has("refused")) ["refused", "request"].forEach((name) => params.delete(name));
  const query = params.toString();
  return pathWith("/admin/oauth/login", { return_to: query === "" ? pathname : `${pathname}?${query}` });
}
