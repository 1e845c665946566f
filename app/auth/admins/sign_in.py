"""Sign-in to the back office: OpenID Connect, authorization code flow with PKCE."""

import re
import secrets
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import structlog
from authlib.deprecate import AuthlibDeprecationWarning

from app.auth.admins.sessions import Signer
from app.auth.errors import NotAnAdmin, SignInFailed, SignInNotConfigured
from app.auth.id_tokens.verifier import InvalidToken, TokenVerifier, is_email_verified
from app.db import new_id
from app.errors import Busy, InvalidRequest
from app.issuers import GOOGLE_ISSUERS, Issuer
from app.settings import Settings

try:  # Authlib uses httpx's successor if it is installed
    from httpx2 import HTTPError as OAuthHTTPError
except ImportError:
    from httpx import HTTPError as OAuthHTTPError  # type: ignore[assignment]  # the other one, for the type checker

with warnings.catch_warnings():  # Authlib warns when it is not
    warnings.simplefilter("ignore", AuthlibDeprecationWarning)
    from authlib.integrations.base_client import OAuthError
    from authlib.integrations.httpx_client import AsyncOAuth2Client

FLOW_FOR = timedelta(minutes=10)
CALLBACK_PATH = "/admin/oauth/callback"
DEFAULT_RETURN_PATH = "/admin-ui/"
TIMEOUT_S = 3.0
MAX_RETURN_CHARS = 500
# One slash, then anything that a browser reads as part of a path: no second slash, backslash or control character.
RETURN_PATH = re.compile(r"/(?![/\\])[A-Za-z0-9_\-./?=&%#~+:@!$'()*,;]*")
ERROR_CODE = re.compile(r"[a-z_]{1,50}")
HTTP_ERRORS = (httpx.HTTPError, OAuthHTTPError)
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A completed sign-in. The session that follows gets this id, so a sign-in can open only one."""

    session_id: UUID
    email: str
    return_to: str


class SignIn:
    """The sign-in flow. One per process. The state of a pending sign-in is not here, but in a signed cookie."""

    def __init__(self, settings: Settings, http: httpx.AsyncClient) -> None:
        self._settings = settings
        self._http = http
        secret, client_id = settings.admin_session_secret, settings.admin_oauth_client_id
        self._signer = Signer(secret, "sign-in") if secret is not None and client_id is not None else None
        self._is_google = settings.admin_oauth_issuer.removesuffix("/") in GOOGLE_ISSUERS
        self._provider: dict[str, Any] | None = None
        self._verifier: TokenVerifier | None = None

    async def aclose(self) -> None:
        if self._verifier is not None:
            await self._verifier.aclose()

    async def begin(self, return_to: str | None, now: datetime) -> tuple[str, str]:
        """Return the provider's URL to go to, and the cookie that ties the provider's answer to this browser.

        Raise InvalidRequest for a `return_to` that is not a path of this server, SignInNotConfigured or Busy.
        """
        path = return_to or DEFAULT_RETURN_PATH
        if len(path) > MAX_RETURN_CHARS or RETURN_PATH.fullmatch(path) is None:
            raise InvalidRequest("return_to must be a path of this server", field="return_to")
        signer = self._configured()
        provider = await self._discovered()
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        async with self._client() as client:
            url, _ = client.create_authorization_url(
                provider["authorization_endpoint"],
                state=state,
                code_verifier=verifier,
                nonce=nonce,
                hd=self._settings.admin_email_domain,  # others ignore it (RFC 6749, section 3.1)
                prompt="select_account",
            )
        claims = {"jti": str(new_id()), "state": state, "nonce": nonce, "verifier": verifier, "to": path}
        return str(url), signer.sign(claims, now=now, expires_at=now + FLOW_FOR)

    async def end(self, query: Mapping[str, str], cookie: str | None, now: datetime) -> SignedIn:
        """Return the person whom the provider confirmed. Raise SignInFailed, NotAnAdmin, SignInNotConfigured, Busy."""
        flow = self._configured().read(cookie or "", now)
        if flow is None:
            raise SignInFailed("Sign-in state missing or expired: start over")
        if not secrets.compare_digest(flow["state"].encode(), query.get("state", "").encode("utf-8", "replace")):
            raise SignInFailed("Sign-in state mismatch: start over")
        if "error" in query or not query.get("code"):
            log.info("sign_in_refused_by_provider", error=_code(query.get("error", "")))
            raise SignInFailed("The provider rejected the sign-in")
        claims = await self._redeem(query["code"], flow["verifier"], now)
        if not secrets.compare_digest(str(claims.get("nonce", "")).encode("utf-8", "replace"), flow["nonce"].encode()):
            raise SignInFailed("The provider's answer belongs to another sign-in")
        return SignedIn(UUID(flow["jti"]), self._allowed_email(claims), flow["to"])

    def _allowed_email(self, claims: Mapping[str, Any]) -> str:
        """Return the verified address in the configured domain. Raise NotAnAdmin.

        A private Google account can have an address of any domain: only `hd` proves that the domain's owner created it.
        Other providers send no `hd`.
        """
        domain = self._settings.admin_email_domain
        email = claims.get("email")
        if not is_email_verified(claims) or not isinstance(email, str):
            raise NotAnAdmin("The provider has not verified this e-mail address")
        if not (email.isascii() and email.isprintable()):  # lower-casing turns some letters into others
            raise NotAnAdmin
        email = email.lower()
        if email.rpartition("@")[2] != domain or (self._is_google and claims.get("hd") != domain):
            raise NotAnAdmin(f"Only accounts of {domain} may sign in here")
        return email

    async def _redeem(self, code: str, code_verifier: str, now: datetime) -> Mapping[str, Any]:
        """Return the claims of the ID token that the code is exchanged for."""
        provider = await self._discovered()
        assert self._verifier is not None
        try:
            async with self._client() as client:
                token = await client.fetch_token(
                    provider["token_endpoint"], code=code, code_verifier=code_verifier, grant_type="authorization_code"
                )
            return await self._verifier.verify_all(str(token.get("id_token", "")), now)
        except (OAuthError, InvalidToken) as error:
            log.info("sign_in_refused", reason=_code(error.error) if isinstance(error, OAuthError) else str(error))
            raise SignInFailed("The provider did not confirm this sign-in") from error
        except (
            TypeError,
            OverflowError,
            AttributeError,
            UnicodeError,
        ) as error:  # from answers of an unexpected shape
            log.warning("sign_in_answer_malformed", error=type(error).__name__)
            raise SignInFailed("The provider did not confirm this sign-in") from error
        except (*HTTP_ERRORS, ValueError) as error:
            log.warning("sign_in_provider_unavailable", error=type(error).__name__)
            raise Busy("The sign-in provider does not answer, retry shortly") from error

    def _configured(self) -> Signer:
        if self._signer is None:
            raise SignInNotConfigured
        return self._signer

    def _client(self) -> AsyncOAuth2Client:
        settings = self._settings
        secret = settings.admin_oauth_client_secret
        return AsyncOAuth2Client(
            settings.admin_oauth_client_id,
            secret.get_secret_value() if secret is not None else None,
            token_endpoint_auth_method="client_secret_post" if secret is not None else "none",
            redirect_uri=f"{settings.base_url}{CALLBACK_PATH}",
            scope="openid email profile",
            code_challenge_method="S256",
            timeout=TIMEOUT_S,
        )

    async def _discovered(self) -> dict[str, Any]:
        """Return the provider's endpoints, fetched once. Raise Busy."""
        if self._provider is not None:
            return self._provider
        issuer = self._settings.admin_oauth_issuer.removesuffix("/")  # OpenID Connect Discovery, section 4.1
        try:
            answer = await self._http.get(f"{issuer}/.well-known/openid-configuration", timeout=TIMEOUT_S)
            answer.raise_for_status()
            provider: dict[str, Any] = answer.json()
            if provider["issuer"].removesuffix("/") != issuer:
                raise ValueError("the document is another issuer's")
            config = Issuer(
                issuer=provider["issuer"],  # tokens spell it as this document does
                jwks_url=provider["jwks_uri"],
                audiences=[str(self._settings.admin_oauth_client_id)],
                provider="oauth:admin",
            )
            endpoints = {name: str(provider[name]) for name in ("authorization_endpoint", "token_endpoint")}
        except (httpx.HTTPError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("sign_in_provider_unavailable", error=type(error).__name__)
            raise Busy("The sign-in provider does not answer, retry shortly") from error
        if self._verifier is None:
            self._verifier = TokenVerifier([config], self._http)
        self._provider = endpoints
        return endpoints


def _code(error: object) -> str | None:
    """Return an OAuth error code, which is safe to log; None for any other value, of any type."""
    return error if isinstance(error, str) and ERROR_CODE.fullmatch(error) else None
