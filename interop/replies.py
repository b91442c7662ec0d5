"""Replies as JSON objects, made comparable."""

from __future__ import annotations

from typing import Any

import natsery

from .contract import data_of
from .peers import Peer

Reply = dict[str, Any]


def plain(reply: Reply) -> Reply:
    """A reply without its time, which each writes to its own precision, and without what is null in its endpoints."""
    kept = {key: value for key, value in reply.items() if key != "started"}
    if "endpoints" in reply:
        kept["endpoints"] = [
            {key: value for key, value in each.items() if value is not None} for each in reply["endpoints"]
        ]
    return kept


def by_id(replies: list[Reply]) -> list[Reply]:
    return sorted((plain(reply) for reply in replies), key=lambda reply: reply["id"])


def as_read(reply: Reply, peer: Peer) -> Reply:
    """What the types of another implementation keep of a reply of ours."""
    if not peer.reads_stats_metadata and reply["type"].endswith("stats_response"):
        reply = {key: value for key, value in reply.items() if key != "metadata"}
    return _without_empty(reply) if peer.omits_empty else reply


def _without_empty(reply: Reply) -> Reply:
    kept = {key: value for key, value in reply.items() if value not in ("", 0, {})}
    if "endpoints" in reply:
        kept["endpoints"] = [_without_empty(each) for each in reply["endpoints"]]
    return kept


def as_sent(service: natsery.Service) -> Reply:
    """STATS as a service answers it, its handler's data included."""
    stats = service.stats()
    reply = stats.to_dict()
    if service.config.stats_handler is not None:
        for endpoint, sent in zip(stats.endpoints, reply["endpoints"], strict=True):
            sent["data"] = data_of(endpoint)
    return reply
