"""Checks files of settings: do they parse, do keys repeat, do they hold what they should not."""

from __future__ import annotations

import configparser
import json
import re
import tomllib
from collections.abc import Iterator
from typing import Any

from examples.review.checks.review import Finding, Review, Source

DEPTH_MAX = 8

_SECRET_KEY = re.compile(r"(?i)(passw(or)?d|secret|token|api[_-]?key|private[_-]?key|credential)")
_REFERENCE = re.compile(r"^(\$|%|\{|<|env:|file:|vault:)|^(none|null|true|false|changeme|x+|\*+)?$")
_TOML_LINE = re.compile(r"\(at line (\d+),")


def check_settings(source: Source) -> Review:
    """Checks one file of settings: TOML, JSON or INI by its name."""
    findings: list[Finding] = []
    tree: Any = None
    try:
        tree = _parsed(source, findings)
    except (tomllib.TOMLDecodeError, json.JSONDecodeError, configparser.Error) as error:
        line = _line_of(error) + source.first_line - 1
        said = str(error).replace("\n", " ").replace("'<string>'", "the file")
        repeated = isinstance(
            error, configparser.DuplicateOptionError | configparser.DuplicateSectionError
        )
        rule = "duplicate-key" if repeated else "does-not-parse"
        findings.append(Finding(source.path, line, rule, said[:300], "error"))
    except RecursionError:
        findings.append(Finding(source.path, 1, "too-deep", "nested too deeply to be read"))
    pairs = list(_leaves(tree))
    depth = max((len(path) for path, _ in pairs), default=0)
    if depth > DEPTH_MAX:
        deepest = ".".join(max(pairs, key=lambda pair: len(pair[0]))[0])
        said = f"{depth} levels deep at {deepest[:120]}"
        findings.append(Finding(source.path, source.first_line, "too-deep", said, "note"))
    findings += _suspicious(source, pairs)
    return Review.of(findings, settings=len(pairs), depth=depth, format=_format(source.path))


def _format(path: str) -> str:
    ending = path.rpartition(".")[2].lower()
    return ending if ending in ("toml", "json") else "ini"


def _parsed(source: Source, findings: list[Finding]) -> Any:
    text = source.text()
    if _format(source.path) == "toml":
        return tomllib.loads(text)
    if _format(source.path) == "json":

        def pairs(given: list[tuple[str, Any]]) -> dict[str, Any]:
            seen: set[str] = set()
            for key, _ in given:
                if key in seen:
                    line = _nth_line_with(text, f'"{key}"', 2) + source.first_line - 1
                    said = f"{key!r} is given twice; the last one wins"
                    findings.append(Finding(source.path, line, "duplicate-key", said, "error"))
                seen.add(key)
            return dict(given)

        return json.loads(text, object_pairs_hook=pairs)
    parser = configparser.ConfigParser(interpolation=None, allow_no_value=True)
    parser.read_string(text)
    return {name: dict(section) for name, section in parser.items()}


def _nth_line_with(text: str, needle: str, times: int) -> int:
    at = -1
    for _ in range(times):
        following = text.find(needle, at + 1)
        if following < 0:
            break
        at = following
    return text.count("\n", 0, max(0, at)) + 1


def _line_of(error: Exception) -> int:
    if isinstance(error, json.JSONDecodeError):
        return error.lineno
    if found := _TOML_LINE.search(str(error)):
        return int(found[1])
    line = getattr(error, "lineno", None)
    if isinstance(line, int):
        return line
    lines = getattr(error, "errors", None)  # configparser.ParsingError collects them
    return int(lines[0][0]) if lines else 1


def _leaves(tree: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _leaves(value, (*path, str(key)))
    elif isinstance(tree, list):
        for value in tree:
            yield from _leaves(value, path)
    elif path:
        yield path, tree


def _suspicious(source: Source, pairs: list[tuple[tuple[str, ...], Any]]) -> Iterator[Finding]:
    text = source.text()
    for path, value in pairs:
        if not isinstance(value, str):
            continue
        line = _nth_line_with(text, path[-1], 1) + source.first_line - 1
        name = ".".join(path)[:120]
        if _SECRET_KEY.search(path[-1]) and not _REFERENCE.search(value.strip().lower()):
            said = f"{name} holds a secret in the clear ({len(value)} characters)"
            yield Finding(source.path, line, "secret-in-settings", said)
        elif value.startswith("http://") and not re.match(r"http://(localhost|127\.|\[::1)", value):
            said = f"{name} is fetched without encryption"
            yield Finding(source.path, line, "plain-http", said, "note")
