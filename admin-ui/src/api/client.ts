import createClient, { type Middleware } from "openapi-fetch";

import { ApiError, errorOf, connectionError } from "./errors";
import type { paths } from "./schema";

const SAFE_METHODS = ["GET", "HEAD", "OPTIONS"];
/** Longer than the server's own request time limit. */
const TIMEOUT_MS = 30_000;

let csrfToken: string | null = null;
let ended = false;
let onSignedOut = (): void => undefined;
let onForbidden = (): void => undefined;

/** Set the CSRF token that every write carries. It belongs to the session that `/admin/oauth/user` returned. */
export function setCsrfToken(token: string | null): void {
  csrfToken = token;
}

export function whenSignedOut(listener: () => void): void {
  onSignedOut = listener;
}

/** Called on 403: the signed-in admin's role may have changed. */
export function whenForbidden(listener: () => void): void {
  onForbidden = listener;
}

/** Whether the session ended while in use, for another reason than signing out in this window. */
export function hasEnded(): boolean {
  return ended;
}

const session: Middleware = {
  onRequest({ request }) {
    if (csrfToken !== null && !SAFE_METHODS.includes(request.method)) request.headers.set("X-CSRF-Token", csrfToken);
    return request;
  },
  async onResponse({ response }) {
    if (response.ok) return;
    if (response.status === 401) {
      ended ||= csrfToken !== null;
      onSignedOut();
    }
    if (response.status === 403) onForbidden();
    const body: unknown = await response
      .clone()
      .json()
      .catch(() => null);
    throw errorOf(response.status, body, response.headers.get("X-Request-ID"));
  },
  onError({ error }) {
    if (error instanceof DOMException && error.name === "AbortError") return error;
    return connectionError(error);
  },
};

/** Reject after TIMEOUT_MS. */
export function requestTimeout(): Promise<never> {
  const signal = AbortSignal.timeout(TIMEOUT_MS);
  return new Promise((_, reject) => {
    signal.addEventListener("abort", () => reject(connectionError(signal.reason)));
  });
}

function fetchInTime(request: Request): Promise<Response> {
  return fetch(request, { signal: AbortSignal.any([request.signal, AbortSignal.timeout(TIMEOUT_MS)]) });
}

export const api = createClient<paths>({ credentials: "same-origin", fetch: fetchInTime });
api.use(session);

/** Return the body of a successful response. The middleware has thrown all others. */
export async function bodyOf<T>(call: Promise<{ data?: T | undefined }>): Promise<T> {
  const { data } = await call;
  if (data === undefined) throw new ApiError(0, "The server returned an empty response. Try again.", null, null);
  return data;
}
