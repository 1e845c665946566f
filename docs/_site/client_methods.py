"""Shows the clients' methods as what they are.

Both clients make them from `Operations` by a decorator; who only reads the sources, as the reference's maker does,
takes them for attributes."""

from typing import Any

import griffe

CLIENTS = {"BillingClient": set(), "AsyncBillingClient": {"async"}}
MADE_BY = ("_blocking(", "_awaited(")


class ClientMethods(griffe.Extension):
    """After the package is loaded, gives the clients the operations' signatures and documentation."""

    def on_package(self, *, pkg: griffe.Module, **others: Any) -> None:
        if pkg.name != "ciris_billing":
            return
        operations = pkg["_operations.Operations"]
        for name, labels in CLIENTS.items():
            client = pkg[f"client.{name}"]
            for member in list(client.members.values()):
                if member.is_attribute and str(member.value).startswith(MADE_BY):
                    client.set_member(member.name, method(operations[member.name], labels))


def method(operation: griffe.Function, labels: set[str]) -> griffe.Function:
    """The operation, returning what its flow results in."""
    returned = operation.returns
    made = griffe.Function(
        operation.name,
        parameters=operation.parameters,
        returns=returned.slice if isinstance(returned, griffe.ExprSubscript) else returned,
        docstring=operation.docstring,
    )
    made.labels |= labels
    return made
