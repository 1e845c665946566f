"""`/admin-ui/`: the built pages of the back office."""

import os
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

HEADERS = {
    # Inline styles are allowed, because the component library sets them. Inline scripts are not.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "font-src 'self'; connect-src 'self'; manifest-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}
NOT_BUILT = "The back office's pages are not built. `make ui` builds them; `make run` builds them in the background.\n"
RELOAD_AFTER_S = 2
BEING_BUILT = f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="refresh" content="{RELOAD_AFTER_S}">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>CIRIS Billing: building the back office</title>
<style>body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 34rem; margin: 20vh auto; padding: 0 1rem }}</style>
<h1>The back office is being built</h1>
<p>The first <code>make run</code> builds these pages, which takes about a minute. This page reloads until they are
ready.</p>
<p>If it takes longer, look into <code>var/log/build-ui.log</code>, or run <code>make ui</code>.</p>
</html>
"""


async def redirect_to_pages(_: Request) -> Response:
    """Redirect `/admin-ui` to `/admin-ui/`. The redirect names no host."""
    return RedirectResponse("/admin-ui/", 308)


class Pages(StaticFiles):
    """Serves the files of `directory`. Every other path gets the application's page, which routes by path.

    `being_built`: while there are no pages, browsers get a page that reloads until they exist.
    """

    def __init__(self, directory: Path, *, being_built: bool = False) -> None:
        super().__init__(directory=directory, check_dir=False)
        self._being_built = being_built
        self._index = directory / "index.html"

    async def check_config(self) -> None:
        """Check nothing: the directory appears when the pages are built."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        try:
            answer = await super().get_response(path, scope)
            # Built files carry a digest of their content in their names; pages do not.
            lasting = "no-cache" if path.endswith(".html") else "public, max-age=31536000, immutable"
            answer.headers["Cache-Control"] = lasting
        except HTTPException as error:
            if error.status_code != 404 or os.path.splitext(path)[1]:
                raise
            answer = self._page()
        answer.headers.update(HEADERS)
        return answer

    def _page(self) -> Response:
        if not self._index.is_file():
            if self._being_built:
                headers = {"Cache-Control": "no-store", "Retry-After": str(RELOAD_AFTER_S)}
                return HTMLResponse(BEING_BUILT, 503, headers)
            return PlainTextResponse(NOT_BUILT, 404)
        return FileResponse(self._index, headers={"Cache-Control": "no-cache"})
