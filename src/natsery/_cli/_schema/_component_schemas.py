"""JSON Schemas as AsyncAPI's ``components.schemas``: each named type once, in the words of AsyncAPI's own schema language."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, final
from urllib.parse import unquote

from ._unique_names import UniqueNames

_DEFINITION: Final = re.compile(r"#/\$defs/([^/]*)(.*)", re.DOTALL)

_DATA: Final = frozenset({"const", "default", "enum", "examples"})
"""Keywords whose values are no schemas."""

_NAMED_PARTS: Final = frozenset({"properties", "patternProperties", "definitions", "dependentSchemas"})
"""Keywords whose values are schemas under names."""


@final
class ComponentSchemas:
    """Gathers the schemas of a service.

    Attributes:
        schemas: the components by name, in the order in which they were first needed.
    """

    def __init__(self) -> None:
        self.schemas: dict[str, Any] = {}
        self._known: dict[str, tuple[str, str]] = {}
        self._names = UniqueNames()

    def add(self, document: Mapping[str, Any], name: str) -> dict[str, str]:
        """Return a reference to a schema that is complete in itself; its definitions become components, too.

        Args:
            document: the schema.
            name: what it is called if it has no title.
        """
        table = document.get("$defs")
        definitions = dict(table) if isinstance(table, dict) else {}
        root = {key: value for key, value in document.items() if key not in ("$schema", "$defs")}
        root_name = _only_reference(root)
        if root_name not in definitions:
            title = root.get("title")
            root_name = title if isinstance(title, str) and title and title not in definitions else name
            while root_name in definitions:
                root_name += "_"
            definitions[root_name] = root
        components = self._place(definitions, root_name)
        for local, part in definitions.items():
            if components[local] not in self.schemas:
                self.schemas[components[local]] = _converted(part, components, root_name)
        return {"$ref": f"#/components/schemas/{components[root_name]}"}

    def _place(self, definitions: Mapping[str, Any], root_name: str) -> dict[str, str]:
        """Return the component of each definition: one that is there, if it is the same with all that it refers to."""
        texts = {local: json.dumps(part) for local, part in definitions.items()}
        users: dict[str, list[str]] = {}
        for local, part in definitions.items():
            for other, _ in _references(part, root_name):
                users.setdefault(other, []).append(local)
        pending = [local for local in definitions if local in self._known and self._known[local][0] != texts[local]]
        others: set[str] = set()
        while pending:
            local = pending.pop()
            if local not in others:
                others.add(local)
                pending += users.get(local, ())
        components: dict[str, str] = {}
        for local in definitions:
            if local in others:
                components[local] = self._names.take(local)
                continue
            if local not in self._known:
                self._known[local] = texts[local], self._names.take(local)
            components[local] = self._known[local][1]
        return components


def _only_reference(root: Mapping[str, Any]) -> str:
    """Return the definition that a schema consists of, ``""`` if it does not."""
    reference = root.get("$ref")
    match = _DEFINITION.fullmatch(reference) if len(root) == 1 and isinstance(reference, str) else None
    return _unescaped(match[1]) if match is not None and not match[2] else ""


def _target(reference: str, root_name: str) -> tuple[str, str] | None:
    """Return to which definition a reference leads, and to what inside it; ``None`` if it leads out of the document."""
    match = _DEFINITION.fullmatch(reference)
    if match is not None:
        return _unescaped(match[1]), match[2]
    return (root_name, reference[1:]) if reference == "#" or reference.startswith("#/") else None


def _unescaped(token: str) -> str:
    """Return a name as it was before it became part of a JSON pointer in a URI."""
    return unquote(token).replace("~1", "/").replace("~0", "~")


def _references(part: Any, root_name: str) -> Iterator[tuple[str, str]]:
    if isinstance(part, dict):
        reference = part.get("$ref")
        target = _target(reference, root_name) if isinstance(reference, str) else None
        if target is not None:
            yield target
        part = list(part.values())
    if isinstance(part, list):
        for each in part:
            yield from _references(each, root_name)


def _converted(part: Any, components: Mapping[str, str], root_name: str) -> Any:
    """Return a schema in the words of AsyncAPI, which are those of JSON Schema's draft 7.

    There, ``$ref`` stands alone, the members of a tuple are ``items``, and a ``discriminator`` is a plain name.
    """

    def convert(value: Any) -> Any:
        if isinstance(value, list):
            return [convert(each) for each in value]
        return convert_schema(value) if isinstance(value, dict) else value

    def convert_schema(schema: dict[str, Any]) -> dict[str, Any]:
        converted: dict[str, Any] = {}
        for key, value in schema.items():
            if key in _DATA:
                converted[key] = value
            elif key in _NAMED_PARTS and isinstance(value, dict):
                converted[key] = {name: convert(each) for name, each in value.items()}
            elif key != "discriminator" or isinstance(value, str):
                converted[key] = convert(value)
        if "prefixItems" in converted:
            rest = converted.pop("items", None)
            converted["items"] = converted.pop("prefixItems")
            if rest is not None:
                converted["additionalItems"] = rest
        reference = converted.pop("$ref", None)
        if not isinstance(reference, str):
            return converted
        target = _target(reference, root_name)
        if target is not None and target[0] in components:
            reference = f"#/components/schemas/{components[target[0]]}{target[1]}"
        if not converted:
            return {"$ref": reference}
        others = converted.get("allOf")
        return {**converted, "allOf": [*(others if isinstance(others, list) else ()), {"$ref": reference}]}

    return convert(part)
