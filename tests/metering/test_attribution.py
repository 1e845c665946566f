"""Attribution: the agent, run and conversation of an event, under the names that other tools give them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.metering.attribution import FIELDS, MAX_CHARS, NAMES, Attribution, attribution_of, normalized_uuid

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
AGENT = "0b6e2d3c-1111-4222-8333-444455556666"


@pytest.mark.parametrize(("field", "name"), [(field, name) for field in NAMES for name in NAMES[field]])
def test_a_name_of_another_tool_is_known(field: str, name: str) -> None:
    value = TRACE if field == "traceparent" else "x-1"
    assert attribution_of({name: value}) == Attribution(**{field: value})


def test_earlier_sources_and_own_names_take_precedence() -> None:
    sources = ({"run_id": None}, {"litellm_trace_id": "second", "run_id": "first"}, {"run_id": "third", "tool": 5})
    assert attribution_of(*sources) == Attribution(run_id="first", tool="5")


@pytest.mark.parametrize("value", ["", "x" * (MAX_CHARS + 1), "a\0b", "\ud800", True, 1.5, [], {}, None, 2**70])
def test_a_value_that_cannot_be_an_attribute_is_ignored(value: Any) -> None:
    assert attribution_of(dict.fromkeys(FIELDS, value)) == Attribution()


@pytest.mark.parametrize("value", ["00", TRACE.upper(), TRACE.replace("4bf9", "xyz1"), "ff" + TRACE[2:], TRACE + "x"])
def test_a_malformed_traceparent_is_ignored(value: str) -> None:
    assert attribution_of({"traceparent": value}, {"traceparent": TRACE}).traceparent == TRACE


@pytest.mark.parametrize("spelling", [AGENT.upper(), AGENT.replace("-", ""), AGENT])
def test_an_agents_uuid_is_normalized(spelling: str) -> None:
    assert attribution_of({"agent_id": spelling}).agent_id == AGENT
    assert normalized_uuid("z" * 36) == "z" * 36


@given(
    st.dictionaries(st.sampled_from([name for names in NAMES.values() for name in names]), st.text() | st.integers())
)
def test_any_source_gives_bounded_texts(source: dict[str, Any]) -> None:
    attribution = attribution_of(source)
    for field in FIELDS:
        value = getattr(attribution, field)
        assert value is None or 0 < len(value) <= MAX_CHARS
