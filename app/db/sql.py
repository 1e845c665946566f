"""SQL text that is put together from parts."""


def sql(template: str, **parts: object) -> str:
    """Return the statement `template` with its `{name}` fields replaced by `parts`.

    The only way to build a statement from parts, so that the rule against SQL injection has one place: template and
    parts are constants of this code base (columns, conditions, other statements). Values are never parts: they are
    always bound (`$1`, `:name`). Literal braces are doubled, as in an f-string.
    """
    return template.format(**parts)
