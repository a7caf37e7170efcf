"""Every fact that the code hands to a log is one that the log writes."""

import ast
from collections.abc import Iterator
from pathlib import Path

from storage.base.logs import FACTS

ROOT = Path(__file__).parents[2]
PACKAGES = ("storage", "ris", "pacs", "viewer_api", "deploy")


def named_facts() -> Iterator[tuple[str, str]]:
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.keyword) and node.arg == "extra":
                    names = node.value.keys if isinstance(node.value, ast.Dict) else ()
                    yield from ((path.name, ast.literal_eval(name)) for name in names if name)


def test_no_fact_is_dropped() -> None:
    named = [*named_facts()]

    assert len(named) > 30
    assert [(where, name) for where, name in named if name not in FACTS] == []
