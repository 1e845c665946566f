"""Attribution: the agent, tool, run and conversation that an event belongs to, under the names that tools use. Pure."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from uuid import UUID

MAX_CHARS = 255
TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-[!-~]*)?")
"""W3C Trace Context. Receivers ignore a value of another form."""

NAMES: Mapping[str, tuple[str, ...]] = {
    "agent_id": ("agent_id", "gen_ai.agent.id", "agentId"),
    "tool": ("tool", "tool_name", "gen_ai.tool.name"),
    "run_id": ("run_id", "runId", "litellm_trace_id", "x-litellm-trace-id"),
    "parent_run_id": ("parent_run_id", "parentRunId"),
    "request_id": ("request_id", "requestId", "gen_ai.response.id", "litellm_call_id", "x-litellm-call-id"),
    "conversation": (
        *("conversation", "conversation_id", "gen_ai.conversation.id"),
        *("session_id", "session.id", "thread_id"),
    ),
    "traceparent": ("traceparent",),
}
"""By attribute: its own name first, then other tools' names. Names with x- are HTTP headers of LiteLLM."""
_FIELD_OF = {name: field for field, names in NAMES.items() for name in names}
_RANK = {name: rank for rank, name in enumerate(_FIELD_OF)}
HEADERS = ("x-litellm-trace-id", "x-litellm-call-id", "traceparent")


class Attribution(NamedTuple):
    """All optional. A text has 1 to 255 characters."""

    agent_id: str | None = None
    tool: str | None = None
    run_id: str | None = None
    parent_run_id: str | None = None
    request_id: str | None = None
    conversation: str | None = None
    traceparent: str | None = None


NOTHING = Attribution()
FIELDS = Attribution._fields


def attribution_of(*sources: Mapping[str, Any]) -> Attribution:
    """Return the attribution that the sources state. Earlier sources take precedence, and own names within a source.

    The sources are free-form: a value that cannot be an attribute is ignored.
    """
    found: dict[str, str] = {}
    for source in filter(None, sources):
        for name in sorted((name for name in source if name in _FIELD_OF), key=_RANK.__getitem__):
            field = _FIELD_OF[name]
            if field in found or (text := _text(source[name])) is None:
                continue
            if field == "agent_id":
                text = normalized_uuid(text)
            if field != "traceparent" or TRACEPARENT.fullmatch(text):
                found[field] = text
    return Attribution(**found)


def _text(value: Any) -> str | None:
    """Return a text of 1 to 255 characters that PostgreSQL can store; numbers as text; None for anything else."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63:
        value = str(value)
    if not isinstance(value, str) or not 0 < len(value) <= MAX_CHARS or "\0" in value:
        return None
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return None
    return value


def normalized_uuid(text: str) -> str:
    """Return a UUID in lower case with hyphens, and any other text as it is."""
    if len(text) not in (32, 36):
        return text
    try:
        return str(UUID(text))
    except ValueError:
        return text
