import createClient, { type Middleware } from "openapi-fetch";

import { ApiError, errorOf } from "./errors";
import type { paths } from "./schema";

const SAFE_METHODS = ["GET", "HEAD", "OPTIONS"];

let csrfToken: string | null = null;
let onSignedOut = (): void => undefined;

/** The token that every write carries; it belongs to the session that `/admin/oauth/user` told of. */
export function setCsrfToken(token: string | null): void {
  csrfToken = token;
}

export function whenSignedOut(listener: () => void): void {
  onSignedOut = listener;
}

const session: Middleware = {
  onRequest({ request }) {
    if (csrfToken !== null && !SAFE_METHODS.includes(request.method)) request.headers.set("X-CSRF-Token", csrfToken);
    return request;
  },
  async onResponse({ response }) {
    if (response.ok) return;
    if (response.status === 401) onSignedOut();
    const body: unknown = await response
      .clone()
      .json()
      .catch(() => null);
    throw errorOf(response.status, body, response.headers.get("X-Request-ID"));
  },
  onError({ error }) {
    if (error instanceof DOMException && error.name === "AbortError") return error;
    return new ApiError(0, "The server cannot be reached. Check the connection and try again.", null, null);
  },
};

export const api = createClient<paths>({ credentials: "same-origin" });
api.use(session);

/** The body of an answer that has one. Every other answer has been thrown by then. */
export async function bodyOf<T>(call: Promise<{ data?: T | undefined }>): Promise<T> {
  const { data } = await call;
  if (data === undefined) throw new ApiError(0, "The server's answer was empty.", null, null);
  return data;
}
