"""A message on its way out, as the bytes that travel: checked here, so that nobody has to look at it again."""

from __future__ import annotations

from .. import abc
from .._errors import ConfigError, MaxPayloadError


def publication(subject: str, data: bytes, reply: str, headers: abc.HeadersInput | None, limit: int) -> bytes:
    """One PUB or HPUB, whole.

    Raises:
        ConfigError: the subject or the reply is empty, has blanks or cannot be written as UTF-8; the headers break a rule.
        MaxPayloadError: headers and payload together are over ``limit``.
    """
    target = b"%b %b" % (_encoded(subject), _encoded(reply)) if reply else _encoded(subject)
    size = len(data)
    if headers is None:
        if size > limit:
            raise MaxPayloadError(size, limit)
        return b"PUB %b %d\r\n%b\r\n" % (target, size, data)
    block = abc.Headers(headers).encode()
    size += len(block)
    if size > limit:
        raise MaxPayloadError(size, limit)
    return b"HPUB %b %d %d\r\n%b%b\r\n" % (target, len(block), size, block, data)


def _encoded(subject: str) -> bytes:
    try:
        encoded = subject.encode()
    except UnicodeEncodeError:
        raise ConfigError("subject", subject, "must be writable as UTF-8") from None
    if encoded.split() != [encoded]:
        raise ConfigError("subject", subject, "is no subject that can be published to")
    return encoded
