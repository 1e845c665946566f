"""The API reference as Markdown, generated from openapi.json."""

import json
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]

AUTH = {
    "ApiKey": "API key (`X-API-Key`)",
    "AdminKey": "API key (`X-Admin-Key`)",
    "UserToken": "user token (`Authorization: Bearer`)",
    "Ticket": "ticket (query `ticket`)",
    "AdminCookie": "back office session (cookie)",
    "AdminToken": "back office session (`Authorization: Bearer`)",
}
METHODS = ("get", "post", "put", "patch", "delete")


def pages(description: Json) -> dict[str, str]:
    """Return the path and Markdown of each page: one per tag, and an index."""
    by_tag: dict[str, list[tuple[str, str, Json]]] = defaultdict(list)
    for path, item in description["paths"].items():
        for method in METHODS:
            if method in item:
                by_tag[item[method]["tags"][0]].append((method.upper(), path, item[method]))
    schemas = Schemas(description["components"]["schemas"])
    made = {f"api/{_file(tag)}.md": _page(tag, operations, schemas) for tag, operations in by_tag.items()}
    made["api/index.md"] = _index(description, by_tag)
    return made


def _file(tag: str) -> str:
    """Return the file name of a tag. The back office's parts are in a separate folder."""
    return tag.replace(": ", "/").replace(" ", "-").lower()


def _index(description: Json, by_tag: dict[str, list[tuple[str, str, Json]]]) -> str:
    lines = ["# API", "", description["info"]["description"], "", "| method | path | |", "|---|---|---|"]
    for tag, operations in by_tag.items():
        lines.append(f"| | | [**{tag}**]({_file(tag)}.md) |")
        lines += [
            f"| {method} | [`{path}`]({_file(tag)}.md#{operation['operationId']}) | {_sentence(operation)} |"
            for method, path, operation in operations
        ]
    lines += [
        "",
        "[Errors](../errors.md) describes the answers to failed requests. The running service serves this description",
    ]
    lines += ["at `/openapi.json`, for client generators."]
    return "\n".join(lines) + "\n"


def _sentence(operation: Json) -> str:
    return str(operation.get("description", operation["summary"])).split(". ")[0].split("\n\n")[0].replace("\n", " ")


def _page(tag: str, operations: list[tuple[str, str, Json]], schemas: "Schemas") -> str:
    lines = [f"# {tag[0].upper()}{tag[1:]}", ""]
    for method, path, operation in operations:
        lines += _operation(method, path, operation, schemas)
    return "\n".join(lines) + "\n"


def _operation(method: str, path: str, operation: Json, schemas: "Schemas") -> Iterator[str]:
    yield f"## {method} {path} {{ #{operation['operationId']} data-toc-label='{method} {path}' }}"
    yield from ("", operation.get("description", operation["summary"]), "")
    allowed = [AUTH[name] for one in operation.get("security", []) for name in one]
    yield from (f"**Callers**: {' or '.join(allowed) or 'everyone'}.", "")
    if parameters := operation.get("parameters"):
        yield from ("**Parameters**", "", "| name | in | type | meaning |", "|---|---|---|---|")
        for parameter in parameters:
            needed = ", required" if parameter.get("required") else ""
            kind, meaning = schemas.kind(parameter["schema"]), _described(parameter, parameter["schema"])
            yield f"| `{parameter['name']}` | {parameter['in']}{needed} | {kind} | {meaning} |"
        yield ""
    for media, content in operation.get("requestBody", {}).get("content", {}).items():
        yield from (f"**Body** ({media})", "", *schemas.fields(content["schema"]), "")
    successes = {code: answer for code, answer in operation["responses"].items() if code < "400"}
    for code, answer in successes.items():
        yield from (f"**{code}** {_meaning(answer)}", "")
        for media, content in answer.get("content", {}).items():
            if content.get("schema"):
                yield from schemas.fields(content["schema"]) if "json" in media else [f"`{media}`"]
                yield ""
    refusals = [
        f"{code} {_meaning(answer)}".strip() for code, answer in operation["responses"].items() if code >= "400"
    ]
    if refusals:
        yield from (f"**Refusals**: {', '.join(sorted(refusals))}.", "")


def _meaning(answer: Json) -> str:
    said = str(answer.get("description", ""))
    return "" if said == "Successful Response" else said


def _number(bound: float) -> str:
    """Format whole numbers without a point. Values beyond the exact range of a float are the 64-bit bounds."""
    if abs(bound) > 2**53:
        return "-2⁶³" if bound < 0 else "2⁶³-1"
    return str(int(bound)) if bound == int(bound) else str(bound)


def _described(field: Json, schema: Json) -> str:
    """Return a field's description, or that of its type where it can be null."""
    found = (one["description"] for one in (field, *schema.get("anyOf", ())) if "description" in one)
    return _cell(next(found, ""))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


class Schemas:
    """The schemas of the description, with references resolved."""

    def __init__(self, schemas: Json) -> None:
        self._schemas = schemas

    def resolve(self, schema: Json) -> Json:
        while "$ref" in schema:
            schema = self._schemas[schema["$ref"].rpartition("/")[2]]
        return schema

    def kind(self, schema: Json) -> str:
        """Return the type as text, with its bounds."""
        if "anyOf" in schema or "oneOf" in schema:
            return " or ".join(dict.fromkeys(self.kind(one) for one in schema.get("anyOf", schema.get("oneOf"))))
        if "$ref" in schema:
            schema = self.resolve(schema)
        if "const" in schema:
            return f"`{json.dumps(schema['const'])}`"
        if "enum" in schema:
            return ", ".join(f"`{value}`" for value in schema["enum"])
        name = str(schema.get("format") or schema.get("type", "any"))
        if name == "array":
            return f"list of {self.kind(schema.get('items', {}))}"
        bounds = [
            f"{sign} {_number(schema[key])}"
            for key, sign in (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("maxLength", "at most"))
            if key in schema
        ]
        return f"{name} {', '.join(bounds)}".strip()

    def fields(self, schema: Json, prefix: str = "") -> Iterator[str]:
        """Return a table of a schema's fields, including those of nested objects."""
        rows = list(self._rows(schema, ""))
        if not rows:
            yield self.kind(schema)
            return
        yield from ("| field | type | |", "|---|---|---|", *rows)

    def _rows(self, schema: Json, prefix: str, depth: int = 0) -> Iterator[str]:
        schema = self.resolve(schema)
        for name, field in schema.get("properties", {}).items():
            needed = " **required**" if name in schema.get("required", ()) and "default" not in field else ""
            yield f"| `{prefix}{name}` | {self.kind(field)} | {_described(field, field)}{needed} |"
            if depth < 3:
                yield from self._rows_inside(field, f"{prefix}{name}", depth + 1)

    def _rows_inside(self, field: Json, name: str, depth: int) -> Iterator[str]:
        for one in field.get("anyOf", [field]):
            inner = self.resolve(one)
            if inner.get("type") == "array":
                yield from self._rows(inner.get("items", {}), f"{name}[].", depth)
            else:
                yield from self._rows(inner, f"{name}.", depth)
