"""Authentication errors: why a caller, or a change to a key, is rejected. No message quotes a credential."""

from app.errors import AppError

KEY_ELSEWHERE = "The API key is in the header Authorization: send it in the header X-API-Key, without Bearer"


class Unauthorized(AppError):
    """The request has no credential that this route accepts. A wrong one is InvalidApiKey or InvalidToken."""

    status, code = 401, "unauthorized"

    def __init__(self, *, user_token_accepted: bool, is_key_elsewhere: bool = False) -> None:
        if is_key_elsewhere:
            super().__init__(KEY_ELSEWHERE, headers={"WWW-Authenticate": "ApiKey"})
        elif user_token_accepted:
            super().__init__(
                "Send an X-API-Key header or a bearer token", headers={"WWW-Authenticate": "ApiKey, Bearer"}
            )
        else:
            super().__init__("This call needs an X-API-Key header", headers={"WWW-Authenticate": "ApiKey"})


class UserTokenRequired(AppError):
    """The route concerns the end user who calls, and the request has no token. API keys do not count."""

    status, code = 401, "unauthorized"

    def __init__(self) -> None:
        super().__init__("This call needs a user's bearer token", headers={"WWW-Authenticate": "Bearer"})


class PersonRequired(AppError):
    """An agent could have sent the request: it has its user's token. See app.auth.persons."""

    status, code = 403, "person_required"

    def __init__(self) -> None:
        super().__init__("This needs a person: sign in again, in the app or page of your account, or ask support")


class InvalidApiKey(AppError):
    """The key is malformed, unknown, wrong, revoked or expired. The answer is the same; `reason` is for the log."""

    status, code = 401, "invalid_api_key"

    def __init__(self, reason: str, *, hint: str = "") -> None:
        super().__init__(f"Invalid API key{hint}", headers={"WWW-Authenticate": "ApiKey"})
        self.reason = reason


class AddressNotAllowed(AppError):
    """The key is right, but its IP allow-list does not contain the client's address."""

    status, code = 403, "address_not_allowed"

    def __init__(self) -> None:
        super().__init__("This API key may not be used from this address")


class ClientCertificateRequired(AppError):
    """The key is right, but bound to a client certificate that the request does not have."""

    status, code = 403, "client_certificate_required"

    def __init__(self) -> None:
        super().__init__("This API key works only with the client certificate that it is bound to")


class RateLimited(AppError):
    """The key's, the address's or the account's token bucket is empty."""

    status, code = 429, "rate_limited"

    def __init__(self, subject: str, *, retry_after_s: int) -> None:
        super().__init__(f"Too many requests for this {subject}", headers={"Retry-After": str(retry_after_s)})


class TooManyAttempts(AppError):
    """Wrong secrets were sent for this key from this address, so further attempts are not verified for a while."""

    status, code = 429, "too_many_attempts"

    def __init__(self, *, retry_after_s: int) -> None:
        super().__init__(
            "Too many failed attempts with this API key from this address",
            headers={"Retry-After": str(retry_after_s)},
        )


class KeyNotFound(AppError):
    status, code = 404, "api_key_not_found"

    def __init__(self) -> None:
        super().__init__("API key not found")


class KeyNotActive(AppError):
    """Revoked, expired or rotated keys can be neither changed nor rotated."""

    status, code = 409, "api_key_not_active"

    def __init__(self, status: str) -> None:
        super().__init__(f"API key is {status}")


class AdminNotFound(AppError):
    status, code = 404, "admin_not_found"

    def __init__(self) -> None:
        super().__init__("Admin not found")


class AdminExists(AppError):
    status, code = 409, "admin_exists"

    def __init__(self) -> None:
        super().__init__("This person already has access")


class AdminUnauthorized(AppError):
    """The request has no session, or an ended one."""

    status, code = 401, "admin_unauthorized"

    def __init__(self) -> None:
        super().__init__("Sign in to the back office", headers={"WWW-Authenticate": "Bearer"})


class AdminForbidden(AppError):
    """The admin's role does not allow the action. `because` names the limit, if the role allows it up to one."""

    status, code = 403, "admin_forbidden"

    def __init__(self, role: str, because: str | None = None) -> None:
        super().__init__(f"Missing required role: {role}{f' ({because})' if because else ''}")


class CsrfFailed(AppError):
    """A write by cookie without the header that only our own pages can send."""

    status, code = 403, "csrf_failed"

    def __init__(self) -> None:
        super().__init__("X-CSRF-Token is missing or wrong: reload the page")


class SignInFailed(AppError):
    """The sign-in's state is missing, expired or mismatched, or the provider rejected it. The person starts over."""

    status, code = 400, "sign_in_failed"


class NotAnAdmin(AppError):
    """The person signed in at the provider, but has no access to the back office."""

    status, code = 403, "not_an_admin"

    def __init__(self, detail: str = "This account may not sign in here") -> None:
        super().__init__(detail)


class SignInNotConfigured(AppError):
    status, code = 503, "sign_in_not_configured"

    def __init__(self) -> None:
        super().__init__("Sign-in is not configured", headers={"Retry-After": "60"})


class LastAdmin(AppError):
    """At least one admin must remain, to give others access."""

    status, code = 409, "last_admin"

    def __init__(self) -> None:
        super().__init__("This is the last admin")
