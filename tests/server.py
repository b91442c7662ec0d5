"""Real nats-servers for tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from natsery.testing import NatsServer as NatsServer
from natsery.testing._nats_server import free_port as free_port


@contextmanager
def cluster(config: str = "") -> Iterator[tuple[NatsServer, NatsServer]]:
    """Two servers that share a configuration and name each other in their INFO."""
    routes = (free_port(), free_port())
    listed = ", ".join(f'"nats-route://127.0.0.1:{port}"' for port in routes)
    texts = [
        f'{config}\ncluster {{ name: test, listen: "127.0.0.1:{port}", routes: [{listed}] }}\nserver_name: "{port}"\n'
        for port in routes
    ]
    with NatsServer(texts[0]) as one, NatsServer(texts[1]) as other:
        for server in (one, other):
            server.wait_until(partial(_knows_both, server), "the servers did not form a cluster")
        yield one, other


def _knows_both(server: NatsServer) -> bool:
    return len(server.monitor("varz").get("connect_urls", ())) == 2
