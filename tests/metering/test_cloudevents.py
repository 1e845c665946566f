"""CloudEvents 1.0 over HTTP: binary, structured and batched content mode."""

import base64
import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.metering.cloudevents import CloudEvent, InvalidEvent, NotCloudEvents, decoded_header, parse_request

JSON, ONE, MANY = "application/json", "application/cloudevents+json", "application/cloudevents-batch+json"
EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": "a-1",
    "source": "/agents/7",
    "type": "llm_tokens",
    "subject": "ann",
    "time": "2026-03-01T12:00:00Z",
    "data": {"model": "m"},
    "traceparent": "00-1",
}
PARSED = CloudEvent(
    "a-1",
    "/agents/7",
    "llm_tokens",
    "ann",
    datetime(2026, 3, 1, 12, tzinfo=UTC),
    {"model": "m"},
    {"traceparent": "00-1"},
)
CE = {f"ce-{name}": value for name, value in EVENT.items() if name != "data"}


def parsed(body: Any, content_type: str = ONE, **headers: str) -> list[CloudEvent | InvalidEvent]:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = [("content-type", content_type), *headers.items()]
    return list(parse_request(sent, content, max_events=3))


def invalid(event: Any) -> str:
    [error] = parsed(event)
    assert isinstance(error, InvalidEvent)
    return str(error)


@pytest.mark.parametrize("content_type", [ONE, f"{ONE}; charset=UTF-8", "Application/CloudEvents+JSON", JSON])
def test_structured_mode(content_type: str) -> None:
    assert parsed(EVENT, content_type) == [PARSED]


@pytest.mark.parametrize("content_type", [MANY, JSON])
def test_batched_mode(content_type: str) -> None:
    other = {**EVENT, "id": "a-2"}
    events = parsed([EVENT, 5, other], content_type)
    assert [type(event).__name__ for event in events] == ["CloudEvent", "InvalidEvent", "CloudEvent"]
    assert parsed([], content_type) == []


@pytest.mark.parametrize("content_type", [JSON, f"{JSON}; charset=utf-8", "application/vnd.usage+json"])
def test_binary_mode(content_type: str) -> None:
    assert parsed(EVENT["data"], content_type, **CE) == [PARSED]


def test_binary_mode_without_data() -> None:
    [event] = parsed(b"", "", **CE)
    assert isinstance(event, CloudEvent)
    assert event.data is None


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),
        ("Euro%20%e2%82%ac", "Euro €"),
        ("%61%2541", "a%41"),  # one round
        ('"a \\"quoted\\" text"', 'a "quoted" text'),
        ('"%22"', '"'),
        ('"', '"'),
        ("plain", "plain"),
    ],
)
def test_a_header_is_unquoted_and_decoded_once(header: str, value: str) -> None:
    assert decoded_header("ce-subject", header) == value


@pytest.mark.parametrize("header", ["%", "%4", "%zz", "100%", "%C0%A0", "%ED%A0%80", "\xff"])
def test_a_header_that_is_not_percent_encoded_utf8_is_refused(header: str) -> None:
    with pytest.raises(InvalidEvent):
        decoded_header("ce-subject", header)
    [error] = parsed({}, JSON, **{**CE, "ce-subject": header})
    assert "ce-subject" in str(error)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_text_survives_a_header(text: str) -> None:
    assert decoded_header("ce-id", quote(text, safe="")) == text


def test_base64_data_is_decoded() -> None:
    encoded = base64.b64encode(b'{"model": "m"}').decode()
    event = {name: value for name, value in EVENT.items() if name != "data"}
    assert parsed({**event, "data_base64": encoded}) == [PARSED]
    for wrong in ("?", base64.b64encode(b"no JSON").decode(), 5):
        assert "data_base64" in invalid({**event, "data_base64": wrong})
    assert "exclude each other" in invalid({**EVENT, "data_base64": encoded})


@pytest.mark.parametrize("name", ["id", "source", "type"])
@pytest.mark.parametrize("value", [None, "", "x" * 256, 5, [], "a\0b", "\ud800"])
def test_a_required_attribute_is_a_short_text(name: str, value: Any) -> None:
    assert name in invalid({**EVENT, name: value})


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"specversion": "0.3"}, "specversion"),
        ({"specversion": 1}, "specversion"),
        ({"time": "yesterday"}, "time"),
        ({"time": "2026-03-01T12:00:00"}, "time"),
        ({"time": 5}, "time"),
        ({"subject": 5}, "subject"),
        ({"datacontenttype": "text/xml"}, "datacontenttype"),
        ({"data": float("nan")}, "data"),
        ({"data": "a\0b"}, "data"),
        ({"data": {"a\0": 1}}, "data"),
        ({"data": "\ud800"}, "data"),
        ({"data": [[[[[[[[[[[[[[[[[[[[[5]]]]]]]]]]]]]]]]]]]]]}, "data"),
        ({"data": "x" * 20_000}, "data"),
        *((({"comexampleextension": value}), "extension") for value in ("a\0b", "\ud800", "x" * 20_000)),
        (dict.fromkeys((f"a{number}" for number in range(100)), "x" * 200), "extension"),
        *(({"time": f"{year}-01-01T00:00:00+14:00"}, "time") for year in ("0001", "1999", "2202")),
    ],
)
def test_an_event_that_cannot_be_kept_is_refused_by_name(changes: dict[str, Any], named: str) -> None:
    assert named in invalid({**EVENT, **changes})


def test_a_header_twice_is_refused() -> None:
    [error] = parse_request([("content-type", JSON), *CE.items(), ("ce-id", "b")], b"", max_events=1)
    assert str(error) == "ce-id is sent twice"


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", ONE),
        (b"{", ONE),
        (b"\xff", JSON),
        (b"[" * 100_000, JSON),
        (EVENT, "text/plain"),
        (EVENT, ""),
        (EVENT, "application/cloudevents+avro"),
        (EVENT, "application/cloudevents-batch"),
        (EVENT, MANY),
        ([EVENT] * 4, MANY),
        ([EVENT] * 4, JSON),
    ],
)
def test_a_request_that_cannot_be_read_is_refused_whole(body: Any, content_type: str) -> None:
    with pytest.raises(NotCloudEvents):
        parsed(body, content_type)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from([*EVENT, "data_base64", "x"]), inner),
    )
)
def test_any_json_is_an_event_or_refused(body: Any) -> None:
    try:
        parsed(body, MANY if isinstance(body, list) else ONE)
    except NotCloudEvents:
        assert isinstance(body, list)
        assert len(body) > 3
