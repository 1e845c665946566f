"""Pages of the local OpenID provider: plain HTML without external resources."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from fastapi.responses import HTMLResponse

STYLE = """
  :root { color-scheme: light dark; font-family: system-ui, sans-serif }
  body { margin: 0; min-height: 100vh; display: grid; place-items: center; background: light-dark(#f1f3f5, #16181b) }
  main { width: min(24rem, 100vw - 4rem); padding: 2rem; border-radius: 1rem; background: light-dark(#fff, #222529);
         box-shadow: 0 1px 3px #0002, 0 8px 24px #0001 }
  h1 { margin: 0 0 .25rem; font-size: 1.4rem } p { margin: 0 0 1.25rem } form { display: grid; gap: .5rem }
  button { display: grid; gap: .15rem; padding: .8rem 1rem; font: inherit; text-align: left; cursor: pointer;
           color: inherit; background: none; border: 1px solid #8886; border-radius: .6rem }
  button:hover, button:focus-visible { border-color: #2f6fed; outline: 2px solid #2f6fed55 }
  button span, footer { font-size: .85rem; opacity: .7 } .cancel { border: 0; text-align: center }
  .error { color: light-dark(#b42318, #ff8f85) } footer { margin-top: 1.25rem }
"""
HEADERS = {
    # No form-action: browsers apply it to the redirect after the form as well, which leads to the client.
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True, slots=True)
class User:
    """A person who can sign in with one click. `hd` is the hosted domain of a Workspace account."""

    sub: str
    email: str
    name: str
    email_verified: bool | str = True
    """Apple and Amazon Cognito send a string."""
    hd: str | None = None
    picture: str | None = None


def refusal_page(reason: str) -> HTMLResponse:
    return _page("Sign-in is not possible", f'<p class="error">{escape(reason)}</p>', 400)


def sign_in_page(users: Sequence[User], client_id: str, query: str, hd: str | None) -> HTMLResponse:
    """Return the page with one button per user. The form posts to the same `query`, which is checked again."""
    buttons = [
        f'<button name="sub" value="{escape(user.sub)}"><b>{escape(user.name)}</b>'
        f"<span>{escape(user.email)}{'' if user.email_verified else ' (not verified)'}</span></button>"
        for user in users
    ]
    no_account = "" if buttons else f'<p class="error">No account of {escape(hd or "this provider")}.</p>'
    body = (
        f"<p>to continue to <b>{escape(client_id)}</b></p>{no_account}"
        f'<form method="post" action="?{escape(query)}">{"".join(buttons)}'
        '<button class="cancel" name="cancel" value="1">Cancel</button></form>'
        "<footer>A local sign-in for trying things out. No password, no real account.</footer>"
    )
    return _page("Choose an account", body, 200)


def _page(title: str, body: str, status: int) -> HTMLResponse:
    document = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>"
        f"<body><main><h1>{escape(title)}</h1>{body}</main></body></html>"
    )
    return HTMLResponse(document, status, HEADERS)
