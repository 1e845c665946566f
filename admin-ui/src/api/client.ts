import createClient, { type Middleware } from "openapi-fetch";

import { ApiError, errorOf, unanswered } from "./errors";
import type { paths } from "./schema";

const SAFE_METHODS = ["GET", "HEAD", "OPTIONS"];
/** The server itself gives up long before. */
const TIMEOUT_MS = 30_000;

let csrfToken: string | null = null;
let ended = false;
let onSignedOut = (): void => undefined;
let onForbidden = (): void => undefined;

/** The token that every write carries; it belongs to the session that `/admin/oauth/user` told of. */
export function setCsrfToken(token: string | null): void {
  csrfToken = token;
}

export function whenSignedOut(listener: () => void): void {
  onSignedOut = listener;
}

/** A right that was there is there no more, for all that the page knows. */
export function whenForbidden(listener: () => void): void {
  onForbidden = listener;
}

/** Whether the session ended while it was in use, and not by signing out here. */
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
    return unanswered(error);
  },
};

/** Rejects once nobody would wait any longer. */
export function noAnswer(): Promise<never> {
  const signal = AbortSignal.timeout(TIMEOUT_MS);
  return new Promise((_, reject) => {
    signal.addEventListener("abort", () => reject(unanswered(signal.reason)));
  });
}

function fetchInTime(request: Request): Promise<Response> {
  return fetch(request, { signal: AbortSignal.any([request.signal, AbortSignal.timeout(TIMEOUT_MS)]) });
}

export const api = createClient<paths>({ credentials: "same-origin", fetch: fetchInTime });
api.use(session);

/** The body of an answer that has one. Every other answer has been thrown by then. */
export async function bodyOf<T>(call: Promise<{ data?: T | undefined }>): Promise<T> {
  const { data } = await call;
  if (data === undefined) throw new ApiError(0, "The server's answer was empty.", null, null);
  return data;
}
