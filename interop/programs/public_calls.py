"""Prints, as JSON, the public names that modules define: functions, classes with their methods, the fields of their configurations, values.

public_calls.py MODULE...
"""

from __future__ import annotations

import ast
import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path

Function = ast.FunctionDef | ast.AsyncFunctionDef


def names_in(body: list[ast.stmt]) -> Iterator[str]:
    for statement in body:
        if isinstance(statement, Function):
            yield statement.name
        elif isinstance(statement, ast.ClassDef) and not statement.name.startswith("_"):
            yield statement.name
            yield from (each.name for each in statement.body if isinstance(each, Function))
            if statement.name.endswith("Config"):
                fields = [each.target for each in statement.body if isinstance(each, ast.AnnAssign)]
                yield from (field.id for field in fields if isinstance(field, ast.Name))
        elif isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            name = ast.unparse(targets[0])
            if name == "__all__":
                yield from ast.literal_eval(statement.value)
            elif not ast.unparse(statement.value).startswith("TypeVar("):
                yield name


def public_calls(module: str) -> set[str]:
    spec = importlib.util.find_spec(module)
    assert spec is not None, module
    assert spec.origin is not None, module
    body = ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body
    return {name for name in names_in(body) if not name.startswith("_")}


if __name__ == "__main__":
    print(json.dumps(sorted(set().union(*map(public_calls, sys.argv[1:])))))
