"""Griffe extension: gives generated methods and the replies' constructors their signatures.

A decorator makes the methods of both clients from `Operations`, and those of a hold's block from `HeldWork`, so a
static reader sees only attributes. Replies are Pydantic models, whose constructors take their fields."""

from collections.abc import Iterable
from typing import Any

import griffe

MADE_FROM = {
    "client.BillingClient": "_operations.Operations",
    "async_client.AsyncBillingClient": "_operations.Operations",
    "holding.Holding": "holding.HeldWork",
    "holding.AsyncHolding": "holding.HeldWork",
}
"""Classes with generated methods, and the class of their operations."""
REPLIES_IN = (
    *("models", "usage", "cost_records", "holds", "live", "remedies", "limits", "runs"),
    *("subscriptions", "payments"),
)
MADE_BY = {"blocking": set(), "awaited": {"async"}}
"""Decorators, and the labels of the methods that they make."""


class ClientMethods(griffe.Extension):
    """Gives generated methods the operations' signatures and docstrings once the package is loaded, and each reply a
    signature that shows its fields."""

    def on_package(self, *, pkg: griffe.Module, **others: Any) -> None:
        if pkg.name != "ciris_billing":
            return
        for name, source in MADE_FROM.items():
            for member in list(pkg[name].members.values()):
                decorator = str(member.value).partition("(")[0] if member.is_attribute else ""
                if decorator in MADE_BY:
                    made = method(pkg[source][member.name], MADE_BY[decorator])
                    pkg[name].set_member(member.name, made)
        for module in REPLIES_IN:
            for reply in pkg[module].classes.values():
                if any(base.name == "Reply" for base in reply.mro()):
                    reply.set_member("__init__", made_from(reply.attributes.values()))


def made_from(fields: Iterable[griffe.Attribute]) -> griffe.Function:
    """Return a constructor with these fields as keywords, without properties."""
    keyword_only = griffe.ParameterKind.keyword_only
    parameters = [
        griffe.Parameter(field.name, annotation=field.annotation, kind=keyword_only, default=field.value)
        for field in fields
        if "property" not in field.labels and field.annotation is not None
    ]
    return griffe.Function("__init__", parameters=griffe.Parameters(griffe.Parameter("self"), *parameters))


def method(operation: griffe.Function, labels: set[str]) -> griffe.Function:
    """Return the operation as a method whose return type is the result of its flow."""
    returned = operation.returns
    made = griffe.Function(
        operation.name,
        parameters=operation.parameters,
        returns=returned.slice if isinstance(returned, griffe.ExprSubscript) else returned,
        docstring=operation.docstring,
    )
    made.labels |= labels
    return made
