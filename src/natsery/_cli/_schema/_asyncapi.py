"""The AsyncAPI 3.0 document of a service: what it receives, and what it replies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import natsery

from ._component_schemas import ComponentSchemas
from ._unique_names import UniqueNames

VERSION: Final = "3.0.0"

_ERROR: Final[dict[str, Any]] = {
    "name": "error",
    "title": "Error reply",
    "description": "The request has failed. The payload is empty, or what the service says besides.",
    "headers": {
        "type": "object",
        "properties": {
            "Nats-Service-Error-Code": {
                "type": "string",
                "pattern": "^[0-9]+$",
                "description": "What kind of error it is: a decimal integer.",
            },
            "Nats-Service-Error": {"type": "string", "description": "A text for a person."},
        },
        "required": ["Nats-Service-Error-Code", "Nats-Service-Error"],
    },
}

_END: Final[dict[str, Any]] = {
    "name": "end",
    "title": "End of the stream",
    "description": "An empty message without headers: there are no more replies.",
    "payload": {"type": "string", "maxLength": 0},
}

_STREAM: Final = "The reply is a stream: any number of replies, and then an empty message, or an error reply."

_BYTES: Final = "application/octet-stream"
_JSON: Final = "application/json"

_WILDCARDS: Final = {"*": "One token of the subject.", ">": "One token of the subject, or several."}


def asyncapi_document(service: natsery.ServiceSchema) -> dict[str, Any]:
    """Return the AsyncAPI document of a service; the same for the same schema.

    Each endpoint is a channel with an operation that receives its requests. Replies go to a channel without an address, for the
    requester chooses their subject.
    """
    names = UniqueNames()
    schemas = ComponentSchemas()
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    for endpoint in service.endpoints:
        key = names.take(endpoint.name)
        channels[key] = {
            **_address(endpoint.subject),
            "messages": {"request": _message("request", endpoint.request, endpoint, schemas)},
        }
        replies = {"reply": _message("reply", endpoint.response, endpoint, schemas)}
        if endpoint.stream:
            replies["end"] = {"$ref": "#/components/messages/end"}
        replies["error"] = {"$ref": "#/components/messages/error"}
        channels[f"{key}.reply"] = {
            "address": None,
            "description": "The reply subject that the requester chose.",
            "messages": replies,
        }
        operations[key] = _operation(key, replies, is_stream=endpoint.stream)
    return {
        "asyncapi": VERSION,
        "info": {
            "title": service.name,
            "version": service.version,
            **({"description": service.description} if service.description else {}),
        },
        "defaultContentType": _JSON,
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": {
                **({"end": _END} if any(each.stream for each in service.endpoints) else {}),
                "error": _ERROR,
            },
            "schemas": schemas.schemas,
        },
    }


def _address(subject: str) -> dict[str, Any]:
    """Return the address of a subject: a wildcard is a parameter."""
    if "{" in subject or "}" in subject:
        # Braces mean parameters in an address, and cannot be escaped.
        return {"address": None, "description": f"The subject is {subject}", "x-nats-subject": subject}
    parameters: dict[str, Any] = {}
    tokens = subject.split(".")
    for index, token in enumerate(tokens):
        if token in _WILDCARDS:
            name = f"token{index + 1}"
            tokens[index] = f"{{{name}}}"
            parameters[name] = {"description": _WILDCARDS[token]}
    address = {"address": ".".join(tokens)}
    return {**address, "x-nats-subject": subject, "parameters": parameters} if parameters else address


def _message(
    name: str, schema: Mapping[str, Any] | None, endpoint: natsery.EndpointSchema, schemas: ComponentSchemas
) -> dict[str, Any]:
    if schema is None:
        return {"name": name, "contentType": _BYTES}
    payload = schemas.add(schema, f"{endpoint.name}-{name}")
    return {"name": name, "contentType": endpoint.content_type or _JSON, "payload": payload}


def _operation(key: str, replies: Iterable[str], *, is_stream: bool) -> dict[str, Any]:
    return {
        "action": "receive",
        "channel": {"$ref": f"#/channels/{key}"},
        **({"description": _STREAM, "x-stream": True} if is_stream else {}),
        "messages": [{"$ref": f"#/channels/{key}/messages/request"}],
        "reply": {
            "channel": {"$ref": f"#/channels/{key}.reply"},
            "messages": [{"$ref": f"#/channels/{key}.reply/messages/{each}"} for each in replies],
        },
    }
