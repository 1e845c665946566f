"""The error for an answer that failed, by its status and its code."""

from collections.abc import Mapping
from typing import Any

from ciris_billing import errors
from ciris_billing._answers import amount, envelope, error_code, integer, message_of
from ciris_billing.errors import BillingError
from ciris_billing.remedies import remedies_in


def _refused(fields: Mapping[str, Any], message: str, about: dict[str, Any]) -> BillingError:
    """Return the error for a 402: by a limit or a run, or for want of credits or money."""
    about |= {"remedies": remedies_in(fields)}
    code, approval_id = about["code"], fields.get("approval_id")
    waits_for = {"approval_id": approval_id if isinstance(approval_id, str) else None}
    if code in errors.RunRefused.codes:
        run = fields.get("run") or fields.get("brake")
        return errors.RunRefused(message, run=run if isinstance(run, Mapping) else None, **waits_for, **about)
    if code not in (errors.LimitExceeded.default_code, errors.ApprovalRequired.default_code):
        return _unpaid(fields, message, about)
    limit = fields.get("limit")
    figures: dict[str, Any] = {
        "limit": limit if isinstance(limit, Mapping) else None,
        "required": amount(fields, "required"),
    }
    if code == errors.LimitExceeded.default_code:
        return errors.LimitExceeded(message, **figures, **about)
    return errors.ApprovalRequired(message, **waits_for, **figures, **about)


def _unpaid(fields: Mapping[str, Any], message: str, about: dict[str, Any]) -> BillingError:
    """Return the error for a 402: of money, if the answer comes from a route of money, otherwise of credits."""
    if envelope(fields) or about["code"] == errors.InsufficientMoney.default_code:
        details = envelope(fields).get("details")
        cents = details if isinstance(details, Mapping) else {}
        currency = fields.get("currency")
        return errors.InsufficientMoney(
            message,
            balance=amount(fields, "balance"),
            required=amount(fields, "required"),
            balance_cents=integer(cents, "balance"),
            required_cents=integer(cents, "required"),
            currency=currency if isinstance(currency, str) else None,
            max_affordable=amount(fields, "max_affordable"),
            **about,
        )
    names = ("balance", "required", "shortfall", "max_affordable")
    return errors.InsufficientCredits(message, **{name: integer(fields, f"{name}_minor") for name in names}, **about)


def _settled(fields: Mapping[str, Any], message: str, about: dict[str, Any]) -> BillingError:
    """Return the error for a 409 of a cost record or hold that has another outcome."""
    is_hold = about["code"] == errors.HoldSettled.default_code
    details = fields.get("details") if is_hold else envelope(fields).get("details")
    known = details if isinstance(details, Mapping) else {}
    outcome = known.get("status") if isinstance(known.get("status"), str) else None
    if is_hold:
        return errors.HoldSettled(message, hold_status=outcome, captured=amount(known, "captured"), **about)
    amounts = {name: amount(known, name) for name in ("cost", "charged")}
    return errors.CostRecordSettled(message, outcome=outcome, **amounts, **about)


OF_422: dict[str | None, type[errors.InvalidRequest]] = {
    kind.default_code: kind for kind in (errors.IdempotencyKeyReused, errors.EventIdReused, errors.AmountAboveHold)
}


def error_for(status: int, body: object, *, retry_after: float | None, request_id: str | None) -> BillingError:
    """Return the error for an answer with any status and body."""
    fields = body if isinstance(body, Mapping) else {}
    code, message = error_code(fields), message_of(fields, status)
    about: dict[str, Any] = {"code": code, "status": status, "request_id": request_id}
    match status:
        case 401:
            return errors.Unauthorized(message, **about)
        case 402:
            return _refused(fields, message, about)
        case 403:
            kinds = {"account_suspended": errors.AccountSuspended, "account_closed": errors.AccountClosed}
            return kinds.get(str(code), errors.PermissionDenied)(message, **about)
        case 404:
            return errors.NotFound(message, **about)
        case 409 if code in (errors.CostRecordSettled.default_code, errors.HoldSettled.default_code):
            return _settled(fields, message, about)
        case 422 if code in OF_422:
            return OF_422[code](message, **about)
        case 429:
            return errors.RateLimited(message, retry_after=retry_after, **about)
        case 502 | 503 | 504:
            return errors.ServiceUnavailable(message, retry_after=retry_after, **about)
    if status >= 500:
        return errors.ServerError(message, **about)
    if status >= 400:
        detail = fields.get("detail")
        return errors.InvalidRequest(message, fields=detail if isinstance(detail, list) else None, **about)
    return errors.InvalidReply(message, **about)
