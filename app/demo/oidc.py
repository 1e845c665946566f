"""A local OpenID provider that signs tokens as Google does, and misbehaves on request.

For trying sign-in without a real account, and for tests. Its `/_control/` routes mint a token for any user, so it
listens on the loopback interface only, and production refuses to trust it.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import re
import secrets
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import unquote_plus, urlencode

from fastapi import Body, FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from joserfc.errors import JoseError

from app.clock import utc_now
from app.demo.oidc_messages import (
    BLACK_HOLE_S,
    AuthorizationRequest,
    Client,
    Code,
    Delivery,
    Mint,
    OAuthError,
    Switches,
    parameters_of,
)
from app.demo.oidc_page import User, refusal_page, sign_in_page
from app.demo.oidc_tokens import TOKEN_LIFETIME_S, Fault, SigningKeys, base64url, id_token

__all__ = ["Client", "Fault", "Switches", "User", "create_app"]

V = TypeVar("V")
MAX_PENDING = 1000
VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")
CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")
SESSION_COOKIE = "demo_oidc_session"


class Provider:
    """The provider's endpoints and state: switches, open codes, browser sessions, counts."""

    def __init__(self, issuer: str, clients: Sequence[Client], users: Sequence[User], state_path: Path | None) -> None:
        self.issuer = issuer
        self.base = issuer.removesuffix("/")
        self.clients = {client.client_id: client for client in clients}
        self.users = {user.sub: user for user in users}
        self.keys = SigningKeys(state_path)
        self.keys.current("RS256")
        self.switches = Switches()
        self.requests: Counter[str] = Counter()
        self._codes: dict[str, Code] = {}
        self._sessions: dict[str, str] = {}

    # --- routes for relying parties

    async def discovery(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.base}/authorize",
            "token_endpoint": f"{self.base}/token",
            "userinfo_endpoint": f"{self.base}/userinfo",
            "jwks_uri": f"{self.base}/jwks",
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": ["authorization_code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256", "ES256"],
            "scopes_supported": ["openid", "email", "profile"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
            "code_challenge_methods_supported": ["S256"],
            "prompt_values_supported": ["none", "login", "consent", "select_account"],
            "authorization_response_iss_parameter_supported": True,
        }

    async def jwks(self, request: Request) -> Response:
        self.requests["jwks"] += 1
        failed = await self._delivery("jwks", request)
        return failed or JSONResponse(self.keys.published(), headers={"Cache-Control": "public, max-age=3600"})

    async def authorize(self, request: Request) -> Response:
        """Show the sign-in page (GET); its buttons POST the choice to the same query."""
        query = request.url.query
        try:
            parameters = parameters_of(query)
            client, redirect_uri = self._client_and_redirect(parameters)
        except OAuthError as error:  # there is no safe address to redirect to
            return refusal_page(error.description)
        answer = {"iss": self.issuer, "state": parameters.get("state")}
        try:
            flow = self._authorization(parameters, client, redirect_uri)
            signed_in = self._sessions.get(request.cookies.get(SESSION_COOKIE, ""))
            if request.method == "GET" and "none" not in flow.prompt:
                return sign_in_page(self._offered(flow), flow.client_id, query, flow.hd)
            form = {"sub": signed_in} if request.method == "GET" else parameters_of(await _text_body(request))
            user = self.users.get(form.get("sub") or "")
            if user is None:
                refusal = "login_required" if request.method == "GET" else "access_denied"
                raise OAuthError(refusal, "no user is signed in")
        except OAuthError as error:
            answer |= {"error": error.error, "error_description": error.description}
            return _redirect(redirect_uri, answer)
        response = _redirect(redirect_uri, answer | {"code": self._new_code(flow, user)})
        session = secrets.token_urlsafe(32)
        _put_bounded(self._sessions, session, user.sub)
        response.set_cookie(SESSION_COOKIE, session, httponly=True, samesite="lax")
        return response

    async def token(self, request: Request) -> Response:
        self.requests["token"] += 1
        failed = await self._delivery("token_endpoint", request)
        if failed is not None:
            return failed
        try:
            body = self._redeem(parameters_of(await _text_body(request)), request.headers.get("Authorization"))
        except OAuthError as error:
            headers = {"WWW-Authenticate": 'Basic realm="token"'} if error.status == 401 else {}
            content = {"error": error.error, "error_description": error.description}
            return JSONResponse(content, error.status, headers | {"Cache-Control": "no-store"})
        return JSONResponse(body, headers={"Cache-Control": "no-store", "Pragma": "no-cache"})

    async def userinfo(self, request: Request) -> Response:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        try:
            claims = self.keys.verify(token) if scheme.lower() == "bearer" else {}
        except (JoseError, ValueError):
            claims = {}
        user = self.users.get(claims.get("sub", ""))
        if user is None or claims.get("aud") != f"{self.base}/userinfo" or claims.get("exp", 0) <= _now_s():
            return JSONResponse({"error": "invalid_token"}, 401, {"WWW-Authenticate": 'Bearer error="invalid_token"'})
        return JSONResponse(_user_claims(user, frozenset(claims.get("scope", "").split())))

    # --- control routes

    async def show(self) -> dict[str, Any]:
        return {"switches": self.switches.model_dump(mode="json"), "requests": dict(self.requests)}

    async def switch(self, changes: Switches) -> dict[str, Any]:
        """Change the named switches; the others stay as they are."""
        self.switches = self.switches.model_copy(update=changes.model_dump(exclude_unset=True))
        return await self.show()

    async def reset(self) -> dict[str, Any]:
        self.switches, self.requests = Switches(), Counter()
        return await self.show()

    async def rotate(self, keep_old: bool = True) -> dict[str, Any]:
        await asyncio.to_thread(self.keys.rotate, self.switches.signing_alg, keep_old=keep_old)
        return self.keys.published()

    async def mint(self, minted: Mint, raw: bool = False) -> Response:
        """Mint an ID token for any user; `raw` returns the bare token, for a shell."""
        overrides = minted.model_extra or {}
        user = self.users.get(str(overrides.get("sub", next(iter(self.users), ""))))
        claims = _user_claims(user, frozenset({"email", "profile"})) if user else {"email_verified": True}
        client_id = overrides.get("aud", next(iter(self.clients), None))
        token = self._id_token({"aud": client_id, "azp": client_id, **claims, **overrides}, minted.faults)
        if raw:
            return PlainTextResponse(token)
        return JSONResponse({"id_token": token, "token_type": "Bearer", "expires_in": TOKEN_LIFETIME_S})

    async def sign(
        self, header: Annotated[dict[str, Any], Body()], payload: Annotated[str, Body()]
    ) -> PlainTextResponse:
        """Sign any bytes: `header` members replace the usual ones, null removes one."""
        return PlainTextResponse(self.keys.sign(header, payload, self.switches.signing_alg))

    # --- steps

    async def _delivery(self, endpoint: Literal["jwks", "token_endpoint"], request: Request) -> Response | None:
        """Apply the switch of `endpoint` to a request. None: answer it properly, possibly after a delay."""
        mode: Delivery = getattr(self.switches, endpoint)
        if mode == "error":
            return JSONResponse({"error": "server_error"}, 500)
        await request.body()  # checking for a disconnect would discard an unread body
        wait_s = {"ok": 0.0, "slow": self.switches.slow_s, "black_hole": BLACK_HOLE_S}[mode]
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline and getattr(self.switches, endpoint) == mode:
            if await request.is_disconnected():
                break
            await asyncio.sleep(0.02)
        return JSONResponse({"error": "temporarily_unavailable"}, 504) if mode == "black_hole" else None

    def _client_and_redirect(self, parameters: Mapping[str, str]) -> tuple[Client, str]:
        client = self.clients.get(parameters.get("client_id", ""))
        if client is None:
            raise OAuthError("invalid_request", "Unknown client_id.")
        redirect_uri = parameters.get("redirect_uri")
        if redirect_uri is None or redirect_uri not in client.redirect_uris:
            raise OAuthError("invalid_request", "The redirect_uri is not registered for this client.")
        return client, redirect_uri

    def _authorization(self, parameters: Mapping[str, str], client: Client, redirect_uri: str) -> AuthorizationRequest:
        if parameters.get("response_type") != "code":
            raise OAuthError("unsupported_response_type", "response_type must be code")
        scopes = frozenset(parameters.get("scope", "").split())
        if "openid" not in scopes:
            raise OAuthError("invalid_scope", "scope must contain openid")
        challenge = parameters.get("code_challenge", "")
        if parameters.get("code_challenge_method") != "S256" or not CHALLENGE.fullmatch(challenge):
            raise OAuthError("invalid_request", "PKCE is required: code_challenge with code_challenge_method=S256")
        prompt = frozenset(parameters.get("prompt", "").split())
        if not prompt <= {"none", "login", "consent", "select_account"} or ("none" in prompt and len(prompt) > 1):
            raise OAuthError("invalid_request", "prompt is not understood")
        return AuthorizationRequest(
            client_id=client.client_id,
            redirect_uri=redirect_uri,
            scopes=scopes,
            state=parameters.get("state"),
            nonce=parameters.get("nonce"),
            code_challenge=challenge,
            prompt=prompt,
            hd=parameters.get("hd"),
            login_hint=parameters.get("login_hint"),
        )

    def _offered(self, flow: AuthorizationRequest) -> list[User]:
        """Return the accounts of the domain `hd` (`*`: any), the hinted one first. Only a filter, as at Google."""
        users = [user for user in self.users.values() if flow.hd in (None, user.hd) or (flow.hd == "*" and user.hd)]
        return sorted(users, key=lambda user: flow.login_hint not in (user.email, user.sub))

    def _new_code(self, flow: AuthorizationRequest, user: User) -> str:
        code = secrets.token_urlsafe(32)
        _put_bounded(self._codes, code, Code(flow, user, time.monotonic()))
        return code

    def _authenticate(self, form: Mapping[str, str], authorization: str | None) -> Client:
        client_id, secret = form.get("client_id"), form.get("client_secret")
        if authorization is not None:
            if secret is not None:
                raise OAuthError("invalid_request", "two ways of client authentication at once")
            scheme, _, credentials = authorization.partition(" ")
            try:
                decoded = base64.b64decode(credentials, validate=True).decode()
            except ValueError:
                decoded = ""
            basic_id, separator, secret = decoded.partition(":")
            if scheme.lower() != "basic" or not separator or client_id not in (None, basic_id):
                raise OAuthError("invalid_client", "malformed client credentials", 401)
            client_id = basic_id
        client = self.clients.get(client_id or "")
        expected = ((client.client_secret if client else None) or "").encode()
        # RFC 6749 requires a percent-encoded secret in Basic; many clients, such as Authlib, send it unencoded.
        given = [secret or "", *([unquote_plus(secret)] if authorization and secret else [])]
        if client is None or not any(hmac.compare_digest(each.encode(), expected) for each in given):
            raise OAuthError("invalid_client", "unknown client or wrong secret", 401)
        return client

    def _redeem(self, form: Mapping[str, str], authorization: str | None) -> dict[str, Any]:
        client = self._authenticate(form, authorization)
        if form.get("grant_type") != "authorization_code":
            raise OAuthError("unsupported_grant_type", "grant_type must be authorization_code")
        # Removed in any case: a code is valid for one attempt.
        code = self._codes.pop(form.get("code", ""), None)
        if code is None or time.monotonic() - code.issued_monotonic_s >= self.switches.code_lifetime_s:
            raise OAuthError("invalid_grant", "the code is unknown, used or too old")
        flow, verifier = code.request, form.get("code_verifier", "")
        if flow.client_id != client.client_id or flow.redirect_uri != form.get("redirect_uri"):
            raise OAuthError("invalid_grant", "the code belongs to another client or redirect_uri")
        challenge = base64url(hashlib.sha256(verifier.encode()).digest())
        if not VERIFIER.fullmatch(verifier) or challenge != flow.code_challenge:
            raise OAuthError("invalid_grant", "the code_verifier does not match")
        scope = " ".join(sorted(flow.scopes & {"openid", "email", "profile"}))
        access_token = self._access_token(code.user, scope)
        claims = {
            "aud": client.client_id,
            "azp": client.client_id,
            **_user_claims(code.user, flow.scopes),
            "nonce": flow.nonce,
            "at_hash": base64url(hashlib.sha256(access_token.encode()).digest()[:16]),
        }
        return {
            "access_token": access_token,
            "token_type": "Bearer",
            "expires_in": TOKEN_LIFETIME_S,
            "scope": scope,
            "id_token": self._id_token(claims, self.switches.id_token),
        }

    def _access_token(self, user: User, scope: str) -> str:
        claims = {
            "iss": self.issuer,
            "aud": f"{self.base}/userinfo",
            "sub": user.sub,
            "scope": scope,
            "iat": _now_s(),
            "exp": _now_s() + TOKEN_LIFETIME_S,
            "jti": secrets.token_hex(16),
        }
        return self.keys.sign({"typ": "at+jwt"}, json.dumps(claims), self.switches.signing_alg)

    def _id_token(self, claims: Mapping[str, Any], faults: frozenset[Fault]) -> str:
        return id_token(self.keys, claims, faults, self.switches.signing_alg, self.issuer, _now_s())


def _now_s() -> int:
    return int(utc_now().timestamp())


def _put_bounded(entries: dict[str, V], key: str, value: V) -> None:
    entries[key] = value
    while len(entries) > MAX_PENDING:
        del entries[next(iter(entries))]


async def _text_body(request: Request) -> str:
    return (await request.body()).decode("utf-8", "replace")


def _redirect(uri: str, parameters: Mapping[str, str | None]) -> RedirectResponse:
    query = urlencode({name: value for name, value in parameters.items() if value is not None})
    return RedirectResponse(f"{uri}{'&' if '?' in uri else '?'}{query}", 303, {"Cache-Control": "no-store"})


def _user_claims(user: User, scopes: frozenset[str]) -> dict[str, Any]:
    claims: dict[str, Any] = {"sub": user.sub, "hd": user.hd}
    if "email" in scopes:
        claims |= {"email": user.email, "email_verified": user.email_verified}
    if "profile" in scopes:
        claims |= {"name": user.name, "picture": user.picture}
    return {name: value for name, value in claims.items() if value is not None}


def create_app(
    *, issuer: str, clients: Sequence[Client], users: Sequence[User], state_path: Path | None = None
) -> FastAPI:
    """Create the provider at `issuer`, its public address. `state_path` stores its keys (mode 600)."""
    provider = Provider(issuer, clients, users, state_path)
    app = FastAPI(title="Local OpenID provider", docs_url=None, redoc_url=None)
    app.add_api_route("/.well-known/openid-configuration", provider.discovery)
    app.add_api_route("/jwks", provider.jwks)
    app.add_api_route("/authorize", provider.authorize, methods=["GET", "POST"])
    app.add_api_route("/token", provider.token, methods=["POST"])
    app.add_api_route("/userinfo", provider.userinfo, methods=["GET", "POST"])
    app.add_api_route("/_control", provider.show)
    app.add_api_route("/_control/switches", provider.switch, methods=["PATCH"])
    app.add_api_route("/_control/reset", provider.reset, methods=["POST"])
    app.add_api_route("/_control/rotate-keys", provider.rotate, methods=["POST"])
    app.add_api_route("/_control/id-token", provider.mint, methods=["POST"])
    app.add_api_route("/_control/sign", provider.sign, methods=["POST"])
    return app
