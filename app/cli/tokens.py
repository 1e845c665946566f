"""`ciris-billing tokens`: revoke end users' tokens."""

import sys
from typing import Any

import httpx
import typer

from app.auth.id_tokens.revocations import revoke_token
from app.auth.id_tokens.verifier import MAX_TOKEN_CHARS, TokenVerifier
from app.cli.output import AsJson, show
from app.cli.running import run
from app.clock import utc_now
from app.db import Database
from app.settings import Settings

tokens_cli = typer.Typer(help="End users' tokens.", no_args_is_help=True)

SHOWN = ("token_id", "environment", "oauth_provider", "external_id", "expires_at")
MAX_READ_BYTES = MAX_TOKEN_CHARS + 1_024
"""More than any token has, with room for surrounding blanks: longer input is rejected as too long."""


def _read_token() -> str:
    """Return the token from standard input: as an argument, every user of the machine could read it."""
    if sys.stdin.isatty():
        typer.echo("Reading the token from standard input: paste it, press Enter, then Ctrl-D.", err=True)
    token = sys.stdin.buffer.read(MAX_READ_BYTES).decode("ascii", "replace").strip()
    if not token:
        raise typer.BadParameter("standard input has no token")
    return token


@tokens_cli.command("revoke")
def tokens_revoke(as_json: AsJson = False) -> None:
    """Revoke a leaked token, everywhere within a second. The token is read from standard input.

    The command gets the keys from the token's issuer, because only a currently valid token needs to be revoked. While
    the issuer is down, revoke all of the user's tokens in the back office.
    """
    token = _read_token()

    async def work(db: Database, settings: Settings) -> dict[str, Any]:
        now = utc_now()
        async with httpx.AsyncClient() as http:
            verifier = TokenVerifier(settings.all_issuers, http)
            try:
                claims = await verifier.verify(token, now)
            finally:
                await verifier.aclose()
        async with db.transaction() as tx:
            await revoke_token(tx, claims.token_id, expires_at=claims.expires_at, now=now)
        return {name: getattr(claims, name) for name in SHOWN}

    show([run(work)], as_json, single=True)
