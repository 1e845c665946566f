"""CloudEvents 1.0 over HTTP: the events of a request in binary, structured or batched content mode. Pure.

Follows the CloudEvents HTTP protocol binding. Beyond it, `application/json` without `ce-` headers is read as structured
(an object) or batched (a list), as OpenMeter does.
"""

import base64
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import unquote_to_bytes

from app.metering.json_values import bounded_json
from app.timestamps import bounded

STRUCTURED, BATCHED = "application/cloudevents", "application/cloudevents-batch"
MAX_CHARS = 255
REQUIRED = ("id", "source", "type")
CONTEXT = (*REQUIRED, "specversion", "subject", "time", "datacontenttype", "dataschema")
EXTENSION = re.compile(r"[a-z0-9]{1,64}")
_QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


class InvalidEvent(ValueError):
    """Not a CloudEvent that this service can read. The message names the attribute."""


class NotCloudEvents(ValueError):
    """The whole request is unreadable: its body or its content type."""


@dataclass(frozen=True, slots=True)
class CloudEvent:
    """`data` is the parsed JSON value, None without data. Extension attributes are texts."""

    id: str
    source: str
    type: str
    subject: str | None = None
    time: datetime | None = None
    data: Any = None
    extensions: Mapping[str, str] = field(default_factory=dict)


def parse_request(
    headers: Iterable[tuple[str, str]], body: bytes, *, max_events: int
) -> Sequence[CloudEvent | InvalidEvent]:
    """Return the events of a request, in order, each parsed or with the reason why it is invalid.

    Header names are in lower case. Raises NotCloudEvents if the body or the content type cannot be read at all.
    """
    headers = list(headers)
    content_type = next((value for name, value in headers if name == "content-type"), "")
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type.startswith(BATCHED):
        _require_json(media_type)
        events = _json(body)
        if not isinstance(events, list):
            raise NotCloudEvents("a batch of CloudEvents is a JSON list")
        return _structured_all(events, max_events)
    if media_type.startswith(STRUCTURED):
        _require_json(media_type)
        return [_structured(_json(body))]
    if any(name.startswith("ce-") for name, _ in headers):
        return [_binary(headers, media_type, body)]
    if media_type != "application/json":
        raise NotCloudEvents(f"send {STRUCTURED}+json, {BATCHED}+json, or ce- headers with a JSON body")
    events = _json(body)
    return _structured_all(events, max_events) if isinstance(events, list) else [_structured(events)]


def _structured_all(events: Sequence[Any], max_events: int) -> list[CloudEvent | InvalidEvent]:
    if len(events) > max_events:
        raise NotCloudEvents(f"a batch has at most {max_events} events")
    return [_structured(event) for event in events]


def _require_json(media_type: str) -> None:
    if not media_type.endswith("+json"):
        raise NotCloudEvents("the only event format is JSON: send a content type that ends in +json")


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise NotCloudEvents("the body is not JSON in UTF-8") from None


def _structured(event: Any) -> CloudEvent | InvalidEvent:
    if not isinstance(event, dict):
        return InvalidEvent("a CloudEvent is a JSON object")
    try:
        attributes = {name: event[name] for name in event if name not in ("data", "data_base64")}
        if event.get("data_base64") is not None:
            if event.get("data") is not None:
                raise InvalidEvent("data and data_base64 exclude each other")
            data = _data_of_base64(event["data_base64"])
        else:
            data = event.get("data")
        return _event(attributes, data)
    except InvalidEvent as error:
        return error


def _data_of_base64(value: Any) -> Any:
    try:
        return json.loads(base64.b64decode(value, validate=True))
    except (TypeError, ValueError, RecursionError):
        raise InvalidEvent("data_base64 is not JSON in base64") from None


def _binary(headers: Iterable[tuple[str, str]], media_type: str, body: bytes) -> CloudEvent | InvalidEvent:
    try:
        attributes: dict[str, str] = {}
        for name, value in headers:
            if name.startswith("ce-"):
                if name[3:] in attributes:
                    raise InvalidEvent(f"{name} is sent twice")
                attributes[name[3:]] = decoded_header(name, value)
        if body and media_type != "application/json" and not media_type.endswith("+json"):
            raise InvalidEvent("data must be JSON: send Content-Type: application/json")
        try:
            data = json.loads(body) if body else None
        except (ValueError, RecursionError):
            raise InvalidEvent("the body is not JSON in UTF-8") from None
        return _event(attributes, data)
    except InvalidEvent as error:
        return error


def decoded_header(name: str, value: str) -> str:
    """Return an attribute from its header: quoted strings unescaped, then one round of percent-decoding (UTF-8).

    Raises InvalidEvent. The value is in Latin-1, as HTTP servers decode header bytes.
    """
    if len(value) > 1 and value.startswith('"') and value.endswith('"'):
        value = _QUOTED_PAIR.sub(r"\1", value[1:-1])
    if _BAD_ESCAPE.search(value):
        raise InvalidEvent(f"{name} has a % that no two hexadecimal digits follow")
    try:
        return unquote_to_bytes(value.encode("latin-1")).decode("utf-8")
    except UnicodeError:
        raise InvalidEvent(f"{name} is not UTF-8") from None


def _event(attributes: Mapping[str, Any], data: Any) -> CloudEvent:
    if attributes.get("specversion", "1.0") != "1.0":
        raise InvalidEvent("specversion must be 1.0")
    texts = {name: _text(name, attributes.get(name)) for name in (*REQUIRED, "subject")}
    for name in REQUIRED:
        if texts[name] is None:
            raise InvalidEvent(f"{name} is required")
    content_type = attributes.get("datacontenttype")
    if content_type is not None and (not isinstance(content_type, str) or "json" not in content_type):
        raise InvalidEvent("datacontenttype must be JSON")
    extensions = {
        name: value
        for name, value in attributes.items()
        if name not in CONTEXT and EXTENSION.fullmatch(name) and isinstance(value, str)
    }
    try:
        bounded_json("data", data)
        bounded_json("the set of extension attributes", extensions)  # they are stored with the event
    except ValueError as error:
        raise InvalidEvent(str(error)) from None
    return CloudEvent(
        id=texts["id"] or "",
        source=texts["source"] or "",
        type=texts["type"] or "",
        subject=texts["subject"],
        time=_time(attributes.get("time")),
        data=data,
        extensions=extensions,
    )


def _text(name: str, value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not 0 < len(value) <= MAX_CHARS or any(ord(sign) < 0x20 for sign in value):
        raise InvalidEvent(f"{name} must be a text of 1 to {MAX_CHARS} characters")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidEvent(f"{name} is not Unicode text") from None
    return value


def _time(value: Any) -> datetime | None:
    """Return an RFC 3339 time with an offset, in UTC: its month decides about prices that fall with a volume."""
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise InvalidEvent("time must be an RFC 3339 time") from None
    if moment.tzinfo is None:
        raise InvalidEvent("time needs an offset, such as Z")
    try:
        return bounded(moment)
    except ValueError as error:
        raise InvalidEvent(f"time {error}") from None
