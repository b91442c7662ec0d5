"""The ``$defs`` of a JSON Schema: each named type once, under a name of its own."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final, final

_PREFIX: Final = "#/$defs/"


@final
class Definitions:
    """Gathers definitions while a schema is made."""

    def __init__(self) -> None:
        self._names: dict[object, str] = {}
        self._uses: Counter[str] = Counter()
        self._schemas: dict[str, dict[str, Any]] = {}

    def refer(self, key: object, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return a reference to the definition with this key, made now if it is new."""
        if key not in self._names:
            unique = self._names[key] = self._unique(name)
            self._schemas[unique] = {}
            self._schemas[unique] = make()
        self._uses[self._names[key]] += 1
        return {"$ref": _PREFIX + self._names[key]}

    def adopt(self, schema: dict[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
        """Return a schema that was made elsewhere, with those of its own definitions that it uses taken in among these."""

        def rename(part: Any) -> Any:
            if isinstance(part, dict):
                return {key: rename(each) for key, each in part.items()}
            if isinstance(part, list):
                return [rename(each) for each in part]
            if isinstance(part, str) and part.startswith(_PREFIX):
                name = part.removeprefix(_PREFIX)
                # The same definition, if all that it refers to is the same, too.
                key = json.dumps([name, _reachable(name, theirs)], sort_keys=True, default=repr)
                return self.refer(key, name, lambda: rename(theirs[name]))["$ref"]
            return part

        adopted: dict[str, Any] = rename(schema)
        return adopted

    def complete(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Return the whole document. A definition that only the root refers to stands there itself."""
        name = str(schema.get("$ref", "")).removeprefix(_PREFIX)
        if self._uses[name] == 1:
            schema = self._schemas.pop(name)
        document = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
        return {**document, "$defs": self._schemas} if self._schemas else document

    def _unique(self, name: str) -> str:
        name = re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip("_") or "Type"
        unique, number = name, 1
        while unique in self._schemas:
            number += 1
            unique = f"{name}_{number}"
        return unique


def _reachable(name: str, schemas: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    pending = [name]
    while pending:
        name = pending.pop()
        if name not in found:
            found[name] = schemas[name]
            text = json.dumps(schemas[name], default=repr)
            pending += (other for other in schemas if json.dumps(_PREFIX + other) in text)
    return found
