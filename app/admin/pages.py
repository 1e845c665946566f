"""`/admin-ui/`: the back office's pages, as they were built."""

import os
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

HEADERS = {
    # Styles may stand in the page: the component library sets them. Scripts may not.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "font-src 'self'; connect-src 'self'; manifest-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}
NOT_BUILT = "The back office's pages are not built (yet). `make ui` builds them; `make run` does it by itself.\n"


class Pages(StaticFiles):
    """Files of `directory`; what is no file is a page of the application, which finds its own way by the address."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory=directory, check_dir=False)
        self._index = directory / "index.html"

    async def check_config(self) -> None:
        """Nothing to check: the directory appears when the pages are built."""

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
            return PlainTextResponse(NOT_BUILT, 404)
        return FileResponse(self._index, headers={"Cache-Control": "no-cache"})
