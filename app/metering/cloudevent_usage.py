"""The usage that a CloudEvent reports: its data may be a metric, a provider's usage object, or OpenMeter's."""

import json
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from pydantic import TypeAdapter, ValidationError

from app.errors import InvalidRequest
from app.metering.attribution import attribution_of
from app.metering.cloudevents import CloudEvent
from app.metering.events import UsageEvent
from app.metering.json_values import bounded_json
from app.metering.measures import Measure, Metric
from app.metering.tokens import KNOWN

METERS = ("llm_tokens", "compute", "api_calls", "tool_calls", "storage")
PROVIDER = ("provider", "gen_ai.provider.name", "gen_ai.system")
MODEL = ("model", "gen_ai.response.model", "gen_ai.request.model")
QUANTITY = ("quantity", "value")
OPENMETER_TOKENS: Mapping[str, str] = {
    "input": "input_uncached",
    "prompt": "input_uncached",
    "system": "input_uncached",
    "output": "output_text",
    "completion": "output_text",
}
"""Token classes by the `type` in the data of OpenMeter's examples."""
_METRIC: TypeAdapter[Measure] = TypeAdapter(Metric)


def usage_event_of(event: CloudEvent, headers: Mapping[str, str], service_name: str | None) -> UsageEvent:
    """Return the usage event. Raises InvalidRequest, which names the attribute or the member of data."""
    data = event.data if isinstance(event.data, dict) else {}
    try:
        measure = _METRIC.validate_python(metric_of(event.type, event.data))
    except ValidationError as invalid:
        first = invalid.errors(include_url=False, include_context=False, include_input=False)[0]
        raise InvalidRequest(f"data.{'.'.join(map(str, first['loc'][1:]))}: {first['msg']}", field="data") from None
    return UsageEvent(
        source=event.source,
        event_id=event.id,
        usage=measure.usage(),
        raw=bounded_json("data", event.data),
        occurred_at=event.time,
        attribution=attribution_of(event.extensions, data, headers),
        service_name=service_name,
        details=json.dumps({"type": event.type, **event.extensions}, ensure_ascii=False),
    )


def metric_of(type: str, data: Any) -> Mapping[str, Any]:
    """Return the metric of an event's type and data. Raises InvalidRequest if the data contains no quantity.

    In this order: a metric or `{"metric": …}`, the members of the meter that the type names, token counts of a known
    provider, OpenMeter's tokens, and else the quantity of the custom meter that the type names. Without data, one unit.
    """
    if data is None or data == {}:
        return _custom(type, 1)
    if not isinstance(data, dict):
        raise InvalidRequest("data must be a JSON object", field="data")
    if isinstance(data.get("metric"), dict):
        return dict(data["metric"])
    if data.get("type") in METERS:
        return data
    if type in METERS and type != "llm_tokens":
        return {**data, "type": type}
    if type == "llm_tokens" or any(name in data for name in KNOWN) or "usage" in data:
        return {**data, **_named_model(data), "type": "llm_tokens"}
    if "tokens" in data:
        return _openmeter_tokens(data)
    return _custom(type, next((data[name] for name in QUANTITY if name in data), None))


def _named_model(data: Mapping[str, Any]) -> dict[str, Any]:
    def first(names: tuple[str, ...]) -> Any:
        return next((data[name] for name in names if data.get(name) is not None), "")

    return {"provider": first(PROVIDER), "model": first(MODEL)}


def _openmeter_tokens(data: Mapping[str, Any]) -> Mapping[str, Any]:
    token_class = OPENMETER_TOKENS.get(str(data.get("type")))
    if token_class is None:
        raise InvalidRequest("data.type must be input, output or system, beside data.tokens", field="data")
    quantity = _number("tokens", data["tokens"])
    if quantity != quantity.to_integral_value():
        raise InvalidRequest("data.tokens must be a whole number", field="data")
    return {"type": "llm_tokens", **_named_model(data), "tokens": {token_class: int(quantity)}}


def _custom(meter: str, quantity: Any) -> Mapping[str, Any]:
    if quantity is None:
        raise InvalidRequest(f"data has no quantity for the meter {meter!r}", field="data")
    return {"type": "custom", "meter": meter, "quantity": _number("quantity", quantity)}


def _number(name: str, value: Any) -> Decimal:
    """Return a number, which OpenMeter's senders may write as text."""
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise InvalidOperation
        number = Decimal(str(value))
    except InvalidOperation:
        raise InvalidRequest(f"data.{name} must be a number", field="data") from None
    if not number.is_finite() or abs(number.adjusted()) > 400:
        raise InvalidRequest(f"data.{name} is out of bounds", field="data")
    return number
