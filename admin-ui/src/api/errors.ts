import { formatLocal } from "../logic/dates";
import { flatten } from "../logic/diff";
import { humanizeFacts, fieldLabel } from "../logic/fieldLabels";
import type { components } from "./schema";

type ErrorBody = components["schemas"]["ErrorReply"] | components["schemas"]["InvalidReply"];
type ChangedBody = components["schemas"]["ChangedReply"];

/** A validation error of one request field; `field` is its wire name. */
export interface Problem {
  field: string;
  message: string;
}

/** Return the server's message about a request field, if there is one. */
export type ProblemOf = (field: string) => string | undefined;

/** A failed request. `status` is 0 when no response arrived. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly code: string | null,
    readonly requestId: string | null,
    readonly problems: Problem[] = [],
  ) {
    super(message);
    this.name = "ApiError";
  }
}

export function errorOf(status: number, body: unknown, requestId: string | null): ApiError {
  if (!isErrorBody(body)) {
    return new ApiError(status, `The server returned status ${status} without details. Try again; if it continues, report the request id.`, null, requestId);
  }
  const { message, problems } = messageOf(body);
  return new ApiError(status, message, body.code, body.request_id ?? requestId, problems);
}

function isErrorBody(body: unknown): body is ErrorBody {
  return typeof body === "object" && body !== null && "detail" in body && "code" in body;
}

/** Return one message that uses the forms' field labels, and the validation errors by field. */
function messageOf(body: ErrorBody): { message: string; problems: Problem[] } {
  const { detail } = body;
  if (isChanged(body)) return { message: conflictMessage(body), problems: [] };
  if (typeof detail !== "string") {
    const wrong = detail.map(({ loc, msg }) => ({ path: loc.slice(1), message: msg.replace(/^Value error, /, "") }));
    return {
      message: wrong.map(({ path, message }) => `${pathLabel(path)}: ${message}`).join("; "),
      problems: wrong.map(({ path, message }) => ({ field: String(path[0] ?? ""), message: capitalized(message) })),
    };
  }
  const field = "field" in body ? body.field : null;
  if (field === null || field === undefined) return { message: detail, problems: [] };
  // The server's message begins with the field's wire name.
  const message = detail.startsWith(field) ? fieldLabel(field) + detail.slice(field.length) : detail;
  return { message, problems: [{ field, message }] };
}

const CHANGED = "changed_meanwhile";

function isChanged(body: ErrorBody): body is ChangedBody {
  return body.code === CHANGED;
}

/** Describe a write conflict: the change, who made it and when, and the current values. */
function conflictMessage({ detail, current, changed_by: by, changed_at: at }: ChangedBody): string {
  const author = by === null || at === null ? "" : ` (${by}, ${formatLocal(at)})`;
  const now = flatten(humanizeFacts(current) ?? {}).map(([name, value]) => `${name}: ${value}`);
  return `${detail}${author}. Current values: ${now.join("; ")}. No changes were made. Review the current values and try again.`;
}

/** Whether the write was rejected because it was based on outdated values. */
export function isStale(error: unknown): boolean {
  return error instanceof ApiError && error.code === CHANGED;
}

/** Return a field path as a label. Items are numbered from 1; names of Pydantic models in the path are left out. */
function pathLabel(path: (string | number)[]): string {
  const parts = path.filter((part) => typeof part === "number" || /^[a-z]/.test(part));
  return parts.map((part) => (typeof part === "number" ? `(${part + 1})` : fieldLabel(part))).join(" ") || "Request";
}

function capitalized(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** Return the validation errors of a failed request, by field. */
export function problemsOf(error: unknown): ProblemOf {
  const problems = error instanceof ApiError ? error.problems : [];
  return (field) => problems.find((problem) => problem.field === field)?.message;
}

const TIMEOUT = "timeout";

/** Return the error for a request without a response. The server may have processed it. */
export function connectionError(error: unknown): ApiError {
  if (error instanceof DOMException && error.name === "TimeoutError") {
    const message = "The server did not respond in time. The request may have been processed: check the result before you try again.";
    return new ApiError(0, message, TIMEOUT, null);
  }
  return new ApiError(0, "The server cannot be reached. Check your connection and try again.", null, null);
}

/** Whether the request timed out, so that its outcome is unknown. */
export function isTimeout(error: unknown): boolean {
  return error instanceof ApiError && error.code === TIMEOUT;
}

/** Whether a retry can succeed soon: the request was valid and did not time out. */
export function isRetryable(error: unknown): boolean {
  if (!(error instanceof ApiError)) return true;
  return !isTimeout(error) && (error.status === 0 || error.status === 429 || error.status >= 500);
}

/** Whether the server certainly rejected the request without effect, so that the next attempt needs a new idempotency key. */
export function wasRejected(error: unknown): boolean {
  return error instanceof ApiError && [400, 401, 402, 403, 404, 422].includes(error.status);
}
