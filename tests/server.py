"""Real nats-servers for tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

from natsery.testing import NatsServer as NatsServer
from natsery.testing._reserved_ports import port_of, reserve_port


@contextmanager
def cluster(config: str = "") -> Iterator[tuple[NatsServer, NatsServer]]:
    """Two servers that share a configuration and name each other in their INFO."""
    with ExitStack() as stack:
        routes = [port_of(stack.enter_context(reserve_port())) for _ in range(2)]
        listed = ", ".join(f'"nats-route://127.0.0.1:{port}"' for port in routes)
        servers = []
        for port in routes:
            joined = f'cluster {{ name: test, listen: "127.0.0.1:{port}", routes: [{listed}] }}\nserver_name: "{port}"'
            servers.append(stack.enter_context(NatsServer(f"{config}\n{joined}\n")))
        for server in servers:
            server.wait_until(partial(_knows_both, server), "the servers did not form a cluster")
        one, other = servers
        yield one, other


def _knows_both(server: NatsServer) -> bool:
    return len(server.monitor("varz").get("connect_urls", ())) == 2
