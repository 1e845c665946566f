"""Rows and rules that no usage reaches, because they name an alias where the engine compares names. Pure."""

from collections.abc import Iterator

from app.pricing.book import ANY_PROVIDER, BookDocument, MarkupRule, fold


def unreachable(document: BookDocument) -> list[str]:
    """Return a sentence for each row, rule and alias that would never apply.

    The engine replaces a provider's alias once, and a model's alias by the row's model, before it compares.
    """
    aliases = {fold(alias): name for alias, name in document.provider_aliases.items() if fold(alias) != fold(name)}
    problems = [
        f"provider_aliases: {alias} is an alias of {name}, which is an alias of {aliases[fold(name)]}"
        for alias, name in document.provider_aliases.items()
        if fold(name) in aliases
    ]
    named = [(f"llm: row {row.id}", row.provider) for row in document.llm]
    named += [(f"markups: rule {rule.id}", rule.provider) for rule in document.markups if rule.provider is not None]
    problems += [
        f"{where} names the provider {provider}, which is an alias of {aliases[fold(provider)]}"
        for where, provider in named
        if fold(provider) in aliases
    ]
    return [*problems, *_rules_of_aliases(document)]


def _rules_of_aliases(document: BookDocument) -> Iterator[str]:
    """Yield the rules that name a model by an alias. A name that is some row's own is no alias."""
    rules = [rule for rule in document.markups if rule.model is not None]
    if not rules:
        return
    own = {fold(row.model) for row in document.llm}
    rows = {fold(alias): row for row in document.llm for alias in row.aliases if fold(alias) not in own}
    for rule in rules:
        row = rows.get(fold(rule.model or ""))
        if row is not None and _is_about(rule, row.provider):
            yield f"markups: rule {rule.id} names the model {rule.model}, which is an alias of {row.model}"


def _is_about(rule: MarkupRule, provider: str) -> bool:
    return rule.provider is None or provider == ANY_PROVIDER or fold(rule.provider) == fold(provider)
