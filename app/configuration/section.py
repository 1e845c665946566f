"""Section: the declaration of one part of the configuration. Loading, editing, history and API derive from it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from app.auth.caller import Environment
from app.settings import Settings

Document = Mapping[str, Any]
DocumentT = TypeVar("DocumentT", bound=BaseModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Section(Generic[DocumentT]):
    """One document that is stored, versioned and replaced as a whole."""

    name: str
    """In URLs, rows and the audit log. It never changes."""
    document: type[DocumentT]
    """The form that is stored, loaded and answered. It accepts every document that was ever stored."""
    from_settings: Callable[[Settings], DocumentT | None]
    """The document while no admin has set one. None: the settings have none."""
    offered: type[BaseModel] | None = None
    """A stricter form of the document, which new versions must have. None: `document`."""
    check: Callable[[Mapping[str, Document]], None] | None = None
    """Checks a new version beside all other sections, given by name. Raises InvalidRequest, which names the field."""
    check_change: Callable[[Document, Document], None] | None = None
    """Checks a new version against the one that it replaces. Raises as `check` does."""
    is_editable: bool = True
    """Whether `GET` and `PUT /admin/config/{name}` exist. A section with secrets has routes of another form."""
    environment: Environment | None = None
    """The environment that a change concerns, as the audit log shows it. None: both."""
    read_description: str | None = None
    change_description: str | None = None
    """The OpenAPI descriptions of the two routes."""
    reply_name: str | None = None
    """The OpenAPI name of the reply. None: from the section's name."""

    def of(self, settings: Settings) -> Document | None:
        """Return the document that the settings give, as it would be stored."""
        document = self.from_settings(settings)
        return None if document is None else document.model_dump()
