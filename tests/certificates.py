"""Certificates for tests of TLS: good ones and bad ones, as files for nats-server and as contexts for clients."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import trustme

HOSTS = ("127.0.0.1", "localhost")


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key, as files."""

    chain: Path
    key: Path


class Certificates:
    """One authority that servers and clients trust, another that neither does, and what they issued.

    Attributes:
        authority: the certificate of the trusted authority.
        server: names this machine, as all do that are not said to differ.
        client: names a user.
        untrusted: issued by the other authority; for a server or a client.
        misnamed: names another host.
        expired: was valid until 2001.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        authority, other = trustme.CA(), trustme.CA()
        self.authority = folder / "authority.pem"
        authority.cert_pem.write_to_path(self.authority)
        self.server = self._write("server", authority.issue_cert(*HOSTS))
        self.client = self._write("client", authority.issue_cert("user@example.com", common_name="user"))
        self.untrusted = self._write("untrusted", other.issue_cert(*HOSTS))
        self.misnamed = self._write("misnamed", authority.issue_cert("elsewhere.example.com"))
        self.expired = self._write("expired", authority.issue_cert(*HOSTS, not_after=datetime(2001, 1, 1, tzinfo=UTC)))

    def _write(self, name: str, issued: trustme.LeafCert) -> Certificate:
        certificate = Certificate(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        issued.cert_chain_pems[0].write_to_path(certificate.chain)
        issued.private_key_pem.write_to_path(certificate.key)
        return certificate

    def server_config(self, certificate: Certificate | None = None, *, options: str = "") -> str:
        """A ``tls`` block for a server's configuration, with such options as ``"verify: true, handshake_first: true"``."""
        certificate = certificate or self.server
        files = f'cert_file: "{certificate.chain}", key_file: "{certificate.key}", ca_file: "{self.authority}"'
        return f"tls {{ {files}, {options} }}\n"

    def client_context(self, certificate: Certificate | None = None) -> ssl.SSLContext:
        """What a client needs that trusts the authority, and shows a certificate if one is given."""
        context = ssl.create_default_context(cafile=self.authority)
        if certificate is not None:
            context.load_cert_chain(certificate.chain, certificate.key)
        return context

    def server_context(self) -> ssl.SSLContext:
        """What a server needs that is no nats-server."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.server.chain, self.server.key)
        return context
