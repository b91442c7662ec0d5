"""Real nats-servers for tests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

from natsery.abc import Connection
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


async def nothing_left(nc: Connection, server: NatsServer) -> bool:
    """Whether the server knows of no subscription of this connection but inboxes."""
    await nc.flush()
    client_id = nc.client.client_id if hasattr(nc, "client") else nc.server_info.client_id
    return all(each.startswith("_INBOX.") for each in server.subscriptions(client_id))


def allowing(*, publish: str = ">", subscribe: str = ">") -> str:
    """The configuration of a server for ``CREDENTIALS``, who may use these subjects, separated by blanks."""
    permissions = f"publish: {json.dumps(publish.split())}, subscribe: {json.dumps(subscribe.split())}"
    return f"authorization {{ users = [{{ user: u, password: p, permissions: {{ {permissions} }} }}] }}"


CREDENTIALS = {"user": "u", "password": "p"}
