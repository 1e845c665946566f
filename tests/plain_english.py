"""Plain English: finds constructions that docs/style.md advises against, in code, docs, pages and configuration.

python -m tests.plain_english [PATH …]      list them, with counts per 1,000 words
"""

import io
import json
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.databases import ROOT

PATTERNS = (
    # Personification, and verbs that say less than the field's term.
    r"told", r"hears?", r"heard", r"stands? (?:in|for|at|between|still|above|below|beside|behind|there)", r"stood",
    r"says so", r"said", r"turned away", r"lets? (?:in|through)", r"is away", r"are away", r"goes on", r"went on",
    r"see to it", r"looks? on", r"take(?:s|n)? note", r"put right", r"begins? again",
    # Pronouns in the place of an actor: name the caller, the worker, the admin.
    r"somebody", r"someone", r"nobody", r"anybody", r"everybody", r"whoever", r"whatever", r"whichever", r"whomever",
    r"one's", r"its like", r"of the kind",
    # Free relative clauses: name the thing.
    r"(?:by|from|to|for|of|with|than|as|and|but|or|that|lets?|until) who",
    r"(?:by|from|to|for|of|with|than|as|before|after) what (?:is|was|are|were|has|had|it|they|a|the|callers)",
    r"(?:^|(?<=[.:;!?] ))(?:Who|Whom|What|Whose) (?!next\b)(?![^.]*\?)",
    r"what is there", r"what there is", r"as it stands",
    # Words for time and manner that have a plain form.
    r"meanwhile", r"anew", r"for ever", r"by itself", r"by themselves", r"of its own", r"of their own", r"all the same",
    r"no more(?! than)", r"any more(?! than)", r"no longer there", r"lest", r"alike", r"thereby", r"hence", r"hereby",
    r"as before", r"in words", r"the doing of", r"ought",
)  # fmt: skip
PATTERN = re.compile(
    "|".join(rf"(?:(?<!\w){p}(?!\w))" if not p.startswith("(?:^") else p for p in PATTERNS), re.I | re.M
)
ABSTAIN = re.compile(r"```.*?```|`[^`\n]*`|https?://\S+|<!--.*?-->|\"[^\"\n]{0,80}\"", re.S)
"""Code, links, and quoted words."""
PAGE_TEXT = re.compile(
    r"\"([^\"]+ [^\"]+)\"|`([^`]+ [^`]+)`|>([^<>{}]+)<|^\s*([A-Z][^<>{}=;()]+)$|(?://|\*) (.*)",
)
"""Strings of at least two words, text between tags, and comments."""
COMMENT = re.compile(r"^\s*[#;]+ (.*)|\s##? (.*)")
CONFIGURATION = (".yml", ".yaml", ".toml", ".ini", ".sh", ".env.example", "Caddyfile", "Dockerfile", "Makefile")
"""Endings of files whose comments are prose."""
EXEMPT = ("schema.d.ts", "plain_english.py", "test_plain_english.py", "style.md")
"""Generated from the OpenAPI document; this list; the test and the page that quote it."""


class Passage(NamedTuple):
    file: str
    line: int
    text: str


class Finding(NamedTuple):
    file: str
    line: int
    words: str
    sentence: str


def passages(path: Path) -> Iterator[Passage]:
    """Yield the prose of a file: docstrings and comments, Markdown, texts of pages, descriptions of OpenAPI."""
    name, text = str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        yield from _python(name, text)
    elif path.suffix == ".md":
        yield Passage(name, 1, text)
    elif path.suffix in (".ts", ".tsx"):
        yield from _page(name, text)
    elif path.name == "openapi.json":
        yield from (Passage(name, 1, found) for found in _descriptions(json.loads(text)))
    else:
        for number, line in enumerate(text.splitlines(), start=1):
            yield from (Passage(name, number, match[1] or match[2]) for match in COMMENT.finditer(line))


def _python(name: str, source: str) -> Iterator[Passage]:
    previous = tokenize.NEWLINE
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield Passage(name, token.start[0], token.string.lstrip("# "))
        elif token.type == tokenize.STRING and _is_prose(token.string, previous):
            yield Passage(name, token.start[0], token.string.strip("rbf\"'"))
        if token.type not in (tokenize.NL, tokenize.COMMENT):
            previous = token.type


def _is_prose(literal: str, previous: int) -> bool:
    """Docstrings, and texts of at least four words: messages, help and descriptions. Not SQL."""
    if literal.startswith(('f"""', "f'''")) or re.search(r"\b(?:SELECT|INSERT|UPDATE|CREATE|FROM|WHERE)\b", literal):
        return False
    is_statement = previous in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
    return is_statement or len(literal.split()) >= 4


def _page(name: str, source: str) -> Iterator[Passage]:
    for number, line in enumerate(source.splitlines(), start=1):
        if line.startswith("import "):
            continue
        for match in PAGE_TEXT.finditer(line):
            yield Passage(name, number, next(group for group in match.groups() if group))


def _descriptions(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ("description", "summary", "title") and isinstance(value, str):
                yield value
            else:
                yield from _descriptions(value)
    elif isinstance(node, list):
        for value in node:
            yield from _descriptions(value)


def findings(passage: Passage) -> Iterator[Finding]:
    text = ABSTAIN.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), passage.text)
    for match in PATTERN.finditer(text):
        line = passage.line + text.count("\n", 0, match.start())
        sentence = passage.text[max(0, match.start() - 50) : match.end() + 50].replace("\n", " ")
        yield Finding(passage.file, line, match[0].strip(), " ".join(sentence.split()))


def tracked(*folders: str) -> list[Path]:
    """Files of the project with prose, except generated and foreign ones."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *folders]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    endings = (".py", ".md", ".ts", ".tsx", "openapi.json", *CONFIGURATION)
    files = (ROOT / name for name in listed if name.endswith(endings) or name.startswith("scripts/"))
    return [path for path in files if path.exists() and path.name not in EXEMPT and path.suffix != ".lock"]


def count(paths: list[Path]) -> tuple[int, list[Finding]]:
    """The words of all prose, and what was found in them."""
    words = 0
    found: list[Finding] = []
    for path in paths:
        for passage in passages(path):
            words += len(passage.text.split())
            found += findings(passage)
    return words, found


def main() -> None:
    words, found = count(tracked(*sys.argv[1:]))
    for finding in found:
        print(f"{finding.file}:{finding.line}: {finding.words!r} in: {finding.sentence}")
    print(f"{len(found)} in {words:,} words: {1000 * len(found) / max(words, 1):.1f} per 1,000")


if __name__ == "__main__":
    main()
