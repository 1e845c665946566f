import type { components } from "./schema";

type ErrorBody = components["schemas"]["ErrorReply"] | components["schemas"]["InvalidReply"];

/** What the server answered instead of what was asked for. `status` 0: no answer came. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly code: string | null,
    readonly requestId: string | null,
  ) {
    super(message);
    this.name = "ApiError";
  }
}

export function errorOf(status: number, body: unknown, requestId: string | null): ApiError {
  if (!isErrorBody(body)) {
    return new ApiError(status, `The server answered ${status} without saying why.`, null, requestId);
  }
  return new ApiError(status, detailOf(body), body.code, body.request_id ?? requestId);
}

function isErrorBody(body: unknown): body is ErrorBody {
  return typeof body === "object" && body !== null && "detail" in body && "code" in body;
}

function detailOf({ detail }: ErrorBody): string {
  if (typeof detail === "string") return detail;
  return detail.map(({ loc, msg }) => `${loc.slice(1).join(".") || "request"}: ${msg}`).join("; ");
}

const NO_ANSWER = "no_answer";

/** What to tell when no answer came: the request may have been carried out all the same. */
export function unanswered(error: unknown): ApiError {
  if (error instanceof DOMException && error.name === "TimeoutError") {
    const message = "The server takes too long to answer. Whether it did anything is not known: look before you try again.";
    return new ApiError(0, message, NO_ANSWER, null);
  }
  return new ApiError(0, "The server cannot be reached. Check the connection and try again.", null, null);
}

/** Whether nobody knows what became of the request. */
export function isUnanswered(error: unknown): boolean {
  return error instanceof ApiError && error.code === NO_ANSWER;
}

/** Whether trying again may help soon: the server did not say that the request itself was wrong, nor was it waited for long. */
export function mayPass(error: unknown): boolean {
  if (!(error instanceof ApiError)) return true;
  return !isUnanswered(error) && (error.status === 0 || error.status === 429 || error.status >= 500);
}

/** Whether the server has certainly done nothing, so that the next try is a new request of its own. */
export function didNothing(error: unknown): boolean {
  return error instanceof ApiError && [400, 401, 402, 403, 404, 422].includes(error.status);
}
