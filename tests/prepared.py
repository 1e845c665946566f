"""Preloaded by the process that the tests fork servers from, so that none of them prepares its routes again."""

from app.main import routes

routes()
