import { formatLocal } from "../logic/dates";
import { flatten } from "../logic/diff";
import { humanizeFacts, fieldLabel } from "../logic/fieldLabels";
import type { components } from "./schema";

type ErrorBody = components["schemas"]["ErrorReply"] | components["schemas"]["InvalidReply"];
type ChangedBody = components["schemas"]["ChangedReply"];

/** What is wrong with one of the request's fields, by its name on the wire. */
export interface Problem {
  field: string;
  message: string;
}

/** The message for a field of the request, if the server had one. */
export type ProblemOf = (field: string) => string | undefined;

/** What the server answered instead of what was asked for. `status` 0: no answer came. */
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
    return new ApiError(status, `The server answered ${status} without saying why.`, null, requestId);
  }
  const { message, problems } = messageOf(body);
  return new ApiError(status, message, body.code, body.request_id ?? requestId, problems);
}

function isErrorBody(body: unknown): body is ErrorBody {
  return typeof body === "object" && body !== null && "detail" in body && "code" in body;
}

/** The whole in a sentence, where fields are called as the forms call them; and what is wrong with each. */
function messageOf(body: ErrorBody): { message: string; problems: Problem[] } {
  const { detail } = body;
  if (isChanged(body)) return { message: changeInWords(body), problems: [] };
  if (typeof detail !== "string") {
    const wrong = detail.map(({ loc, msg }) => ({ path: loc.slice(1), message: msg.replace(/^Value error, /, "") }));
    return {
      message: wrong.map(({ path, message }) => `${inForm(path)}: ${message}`).join("; "),
      problems: wrong.map(({ path, message }) => ({ field: String(path[0] ?? ""), message: capitalized(message) })),
    };
  }
  const field = "field" in body ? body.field : null;
  if (field === null || field === undefined) return { message: detail, problems: [] };
  // Such a sentence begins with its field.
  const message = detail.startsWith(field) ? fieldLabel(field) + detail.slice(field.length) : detail;
  return { message, problems: [{ field, message }] };
}

const CHANGED = "changed_meanwhile";

function isChanged(body: ErrorBody): body is ChangedBody {
  return body.code === CHANGED;
}

/** What changed, by whom and when, and what is there now. */
function changeInWords({ detail, current, changed_by: by, changed_at: at }: ChangedBody): string {
  const who = by === null || at === null ? "" : ` (${by}, ${formatLocal(at)})`;
  const now = flatten(humanizeFacts(current) ?? {}).map(([name, value]) => `${name}: ${value}`);
  return `${detail}${who}. Now: ${now.join("; ")}. Nothing was done: look at the current figures and decide again.`;
}

/** Whether what was on the screen is not what is there now. */
export function isStale(error: unknown): boolean {
  return error instanceof ApiError && error.code === CHANGED;
}

/** Items are counted from one; a model's name among many, as the path to an item may have it, is nobody's. */
function inForm(path: (string | number)[]): string {
  const parts = path.filter((part) => typeof part === "number" || /^[a-z]/.test(part));
  return parts.map((part) => (typeof part === "number" ? `(${part + 1})` : fieldLabel(part))).join(" ") || "The request";
}

function capitalized(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** What the server found wrong, for the fields of a form. */
export function problemsOf(error: unknown): ProblemOf {
  const problems = error instanceof ApiError ? error.problems : [];
  return (field) => problems.find((problem) => problem.field === field)?.message;
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
export function isRetryable(error: unknown): boolean {
  if (!(error instanceof ApiError)) return true;
  return !isUnanswered(error) && (error.status === 0 || error.status === 429 || error.status >= 500);
}

/** Whether the server has certainly done nothing, so that the next try is a new request of its own. */
export function didNothing(error: unknown): boolean {
  return error instanceof ApiError && [400, 401, 402, 403, 404, 422].includes(error.status);
}
