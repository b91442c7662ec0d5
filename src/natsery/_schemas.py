"""The schemas of a service on the wire: where they are served, and the document that describes its endpoints.

``docs/schemas.md`` has the same for readers of other languages.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, final

from ._codecs._codec import Codec
from ._errors import ConfigError
from ._handlers import NO_BODY, Signature
from ._responses import MAX_DEPTH, EndpointInfo, Reader, ServicePing, writable_json
from ._subjects import covers, literal_subject_rule

SCHEMA_RESPONSE_TYPE: Final = "io.natsery.v1.schema_response"
"""The type of the document, and what the endpoint that serves it says in its metadata."""

SCHEMA_ENDPOINT: Final = "_schema"
"""The name of that endpoint."""

SCHEMA_PREFIX: Final = "_SCHEMA"
"""How its subject begins."""

DIGEST_KEY: Final = "schema"
"""The key in an endpoint's metadata of the digest of its schema."""

SERVES_KEY: Final = "serves"
"""The key in the metadata of the endpoint that serves the document."""

NO_SUCH_ENDPOINT: Final = (404, "No Such Endpoint")
TOO_LARGE_AT_ONCE: Final = (413, "Schema Too Large: send the name of one endpoint")


def schema_subject(service: str, instance: str) -> str:
    """Return the subject on which an instance of a service serves its schemas."""
    return f"{SCHEMA_PREFIX}.{service}.{instance}"


def serves_schemas(service: str, instance: str, endpoint: EndpointInfo) -> bool:
    """Whether an endpoint, as INFO describes it, is where an instance serves its schemas.

    A peer writes INFO, so its subject counts only if nothing else can be meant by it: it may have a prefix, as that of a
    subject mapping, but none of a control plane.
    """
    subject = endpoint.subject
    return (
        endpoint.metadata.get(SERVES_KEY) == SCHEMA_RESPONSE_TYPE
        and f".{subject}".endswith(f".{schema_subject(service, instance)}")
        and not subject.startswith("$")
        and literal_subject_rule(subject) is None
    )


@final
@dataclass(frozen=True, kw_only=True)
class EndpointSchema:
    """The types of an endpoint.

    Attributes:
        name: its name.
        subject: its whole subject.
        content_type: the media type of its typed bodies, ``None`` if it has none.
        request: the JSON Schema (2020-12) of a request's body; ``None`` if that is bytes, or not used.
        response: the JSON Schema of a reply, of each reply if there are several; ``None`` if that is bytes.
        stream: whether a request may have any number of replies, which an empty message ends.
        digest: the same for the same schema, another one for another; ``None`` without types.
    """

    name: str
    subject: str
    content_type: str | None = None
    request: Mapping[str, Any] | None = None
    response: Mapping[str, Any] | None = None
    stream: bool = False
    digest: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {**self._digested(), "digest": self.digest}

    def _digested(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "subject": self.subject,
            "content_type": self.content_type,
            "request": None if self.request is None else dict(self.request),
            "response": None if self.response is None else dict(self.response),
            "stream": self.stream,
        }


@final
@dataclass(frozen=True, kw_only=True)
class ServiceSchema(ServicePing):
    """The types of a service's endpoints: what `ServiceClient.schema` returns.

    Attributes:
        description: the service's description.
        endpoints: its endpoints in the order of INFO, without the one that serves this.
    """

    response_type: ClassVar[str] = SCHEMA_RESPONSE_TYPE

    description: str = ""
    endpoints: tuple[EndpointSchema, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the document as a JSON object."""
        return {
            **super().to_dict(),
            "description": self.description,
            "endpoints": [endpoint.to_dict() for endpoint in self.endpoints],
        }

    @classmethod
    def _fields(cls, reader: Reader) -> dict[str, Any]:
        return {
            **super()._fields(reader),
            "description": reader.text("description"),
            "endpoints": tuple(
                EndpointSchema(
                    name=each.required_text("name"),
                    subject=each.required_text("subject"),
                    content_type=each.text("content_type") or None,
                    request=_read_schema(each.value.get("request")),
                    response=_read_schema(each.value.get("response")),
                    stream=each.value.get("stream") is True,
                    digest=each.text("digest") or None,
                )
                for each in reader.endpoints()
            ),
        }


def _read_schema(value: Any) -> dict[str, Any] | None:
    """Return a schema as an object; JSON Schema has ``true`` and ``false``, too. ``None`` for what is none."""
    if isinstance(value, bool):
        return {} if value else {"not": {}}
    return writable_json(value, MAX_DEPTH) if isinstance(value, dict) else None


def describe_endpoint(name: str, subject: str, signature: Signature, codec: Codec, handler: object) -> EndpointSchema:
    """Return the types of an endpoint.

    Raises:
        ConfigError: its codec cannot describe them.
    """
    where = f"EndpointConfig({name!r}).handler"
    request, response = (
        None if type_ is NO_BODY or type_ is bytes else _schema_of(where, handler, codec, type_)
        for type_ in (signature.body, signature.result)
    )
    is_typed = request is not None or response is not None
    schema = EndpointSchema(
        name=name,
        subject=subject,
        content_type=codec.content_type if is_typed else None,
        request=request,
        response=response,
        stream=signature.is_stream,
    )
    return schema if not is_typed else _with_digest(where, handler, schema)


def _schema_of(where: str, handler: object, codec: Codec, type_: Any) -> dict[str, Any]:
    try:
        return codec.schema(type_)
    except TypeError as error:
        reason = f"has a type without a schema: {error}; write another type, or ServiceConfig(schemas=False)"
        raise ConfigError(where, handler, reason) from None


def _with_digest(where: str, handler: object, schema: EndpointSchema) -> EndpointSchema:
    from ._canonical_json import canonical_json  # which few programs need

    try:
        parts = schema._digested()
        digest = hashlib.sha256(canonical_json(parts)).hexdigest()[:16]
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ConfigError(where, handler, f"has a schema that cannot be written as JSON: {error}") from None
    return EndpointSchema(**parts, digest=f"sha256:{digest}")


def check_no_clash(own_subject: str, name: str, subject: str, metadata: Mapping[str, str]) -> None:
    """Refuse an endpoint that could be taken for the one that serves the schemas on its own subject, or gets its requests.

    Raises:
        ConfigError: it names what to change.
    """
    where = f"EndpointConfig({name!r})"
    if name == SCHEMA_ENDPOINT:
        raise ConfigError(f"{where}.name", name, "is that of the endpoint that serves the schemas; write another name")
    if subject.startswith(f"{SCHEMA_PREFIX}.") or covers(subject, own_subject):
        reason = f"must leave {own_subject} to the endpoint that serves the schemas; write a narrower one"
        raise ConfigError(f"{where}.subject", subject, reason)
    if DIGEST_KEY in metadata:
        reason = f"must leave the key {DIGEST_KEY!r} to the schema's digest; write another key, or ServiceConfig(schemas=False)"
        raise ConfigError(f"{where}.metadata", dict(metadata), reason)
