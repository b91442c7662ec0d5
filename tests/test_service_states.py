"""A service in memory, through any sequence of what can happen to it: its books always balance."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field

import anyio
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import natsery
from natsery.testing import MemoryBroker

from .calc_service import error_of
from .portals import Portal, case_of

MAX_WAITING = 2


@dataclass
class Held:
    """A request that its handler, or a task that has it detached, does not answer until it is told to."""

    reply: Future[natsery.Message]
    data: bytes
    gate: anyio.Event | None = None


@dataclass
class Counted:
    """What an endpoint must show."""

    endpoint: natsery.Endpoint
    kind: str
    requests: int = 0
    errors: int = 0
    held: list[Held] = field(default_factory=list)


class ServiceStates(RuleBasedStateMachine):
    backend: str

    def __init__(self) -> None:
        super().__init__()
        self.portal = Portal(self.backend)
        self.broker = self.portal.enter(MemoryBroker())
        self.nc = self.portal.enter(self.broker.connect())
        self.client = self.portal.enter(self.broker.connect())
        self.tasks = self.portal.enter(self.portal.run(anyio.create_task_group))
        self.service: natsery.Service | None = None
        self.running: Future[None] | None = None
        self.endpoints: dict[str, Counted] = {}
        self.gates: dict[bytes, anyio.Event] = {}
        self.made = 0
        self.is_stopping = False

    # Handlers

    async def _echoes(self, request: natsery.Request) -> bytes:
        return request.data

    async def _raises(self, request: natsery.Request) -> bytes:
        raise LookupError("not to be told")

    async def _refuses(self, request: natsery.Request) -> None:
        await request.respond(b"first")
        await request.respond_error(404, "not here")

    async def _keeps_silent(self, request: natsery.Request) -> None:
        return None

    async def _holds(self, request: natsery.Request) -> bytes:
        self.gates[request.data] = gate = anyio.Event()
        await gate.wait()
        return request.data

    async def _detaches(self, request: natsery.Request) -> None:
        detached = request.detach()
        self.gates[request.data] = gate = anyio.Event()
        self.tasks.start_soon(self._answer, detached, gate)

    async def _answer(self, detached: natsery.DetachedRequest, gate: anyio.Event) -> None:
        try:
            async with detached as request:
                await gate.wait()
                await request.respond(request.data)
        except natsery.ServiceStoppedError:  # it was cut off
            pass

    # Rules

    def has_service(self) -> bool:
        return self.service is not None and not self.is_stopping

    def is_away(self) -> bool:
        return not self.nc.is_connected

    @precondition(lambda self: self.service is None and not self.is_away())
    @rule()
    def start(self) -> None:
        config = natsery.ServiceConfig("states", "1.0.0")
        self.running, self.service = self.portal.start_until_started(natsery.serve_forever, self.nc, config)
        for kind in ("echoes", "holds", "detaches"):
            self.add_endpoint(kind)

    @precondition(lambda self: self.has_service() and not self.is_away() and len(self.endpoints) < 6)
    @rule(kind=st.sampled_from(["echoes", "raises", "refuses", "keeps_silent", "holds", "detaches"]))
    def add_endpoint(self, kind: str) -> None:
        self.made += 1
        name = f"{kind}-{self.made}"
        config = natsery.EndpointConfig(name, getattr(self, f"_{kind}"), pending_messages=MAX_WAITING)
        self.endpoints[name] = Counted(self.portal.run(self.service.add_endpoint, config), kind)

    def idle(self) -> list[str]:
        return [name for name, each in self.endpoints.items() if not each.held]

    @precondition(lambda self: self.has_service() and not self.is_away() and self.idle())
    @rule(data=st.data())
    def remove_endpoint(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.idle()))
        self.portal.run(self.endpoints.pop(name).endpoint.remove)
        self.check_nobody_at(name)

    @precondition(lambda self: self.has_service() and not self.is_away() and self.endpoints)
    @rule(data=st.data(), count=st.integers(1, 3))
    def request(self, data: st.DataObject, count: int) -> None:
        name = data.draw(st.sampled_from(list(self.endpoints)))
        for _ in range(count):
            self._request(name)

    def _request(self, name: str) -> None:
        counted = self.endpoints[name]
        self.made += 1
        body = b"%d" % self.made
        if counted.kind == "keeps_silent":
            counted.requests += 1
            self.portal.run(self.client.publish, name, body)
            return
        reply = self.portal.start(self.client.request, name, body)
        takes = {"holds": 1 + MAX_WAITING, "detaches": MAX_WAITING}.get(counted.kind)
        if takes is not None and len(counted.held) < takes:
            counted.held.append(Held(reply, body))
            assert not reply.done()
            return
        counted.requests += 1
        if counted.kind == "echoes":
            assert reply.result(0).data == body
        elif counted.kind == "refuses":
            counted.errors += 1
            assert reply.result(0).data == b"first"
        else:
            counted.errors += 1
            wanted = "500:Internal Server Error" if counted.kind == "raises" else "503:Service Overloaded"
            assert error_of(reply.result(0)) == wanted

    @precondition(lambda self: self.has_service() and not self.is_away() and self.endpoints)
    @rule(data=st.data())
    def request_too_late(self, data: st.DataObject) -> None:
        counted = self.endpoints[name := data.draw(st.sampled_from(list(self.endpoints)))]
        if counted.held:
            return  # it would wait, or be refused
        counted.requests += 1
        counted.errors += 1

        async def ask() -> natsery.Message:
            return await self.client.request(name, headers={"Request-Timeout-Ms": "0"})

        assert error_of(self.portal.run(ask)) == "504:Deadline Exceeded"

    @precondition(lambda self: self.service is not None and any(each.held for each in self.endpoints.values()))
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        """Let go of the first request that an endpoint holds."""
        self._let_go(data.draw(st.sampled_from([each for each in self.endpoints.values() if each.held])))

    def _let_go(self, counted: Counted) -> None:
        held = counted.held.pop(0)
        counted.requests += 1
        self.portal.run(self.gates.pop(held.data).set)
        if not held.reply.cancelled() and not self.is_away():
            assert held.reply.result(0).data == held.data
        self._note_end()

    @precondition(lambda self: any(each.held for each in self.endpoints.values()))
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        """A requester does not wait any more; its request is handled all the same."""
        held = data.draw(st.sampled_from([held for each in self.endpoints.values() for held in each.held]))
        held.reply.cancel()
        self.portal.settle()

    @precondition(lambda self: self.has_service())
    @rule()
    def reset(self) -> None:
        self.portal.run(self.service.reset)
        for counted in self.endpoints.values():
            counted.requests = counted.errors = 0

    @precondition(lambda self: not self.is_away() and not self.is_stopping)
    @rule()
    def disconnect(self) -> None:
        self.portal.run(self.broker.disconnect, self.nc)

    @precondition(is_away)
    @rule()
    def reconnect(self) -> None:
        """Replies that were given meanwhile arrive."""
        self.portal.run(self.broker.reconnect, self.nc)

    @precondition(lambda self: self.has_service() and not self.is_away())
    @rule()
    def stop(self) -> None:
        """What is held may still be answered."""
        self.portal.run(self.service.stop)
        self.is_stopping = True
        for name in self.endpoints:
            self.check_nobody_at(name)
        self._note_end()

    @precondition(lambda self: self.service is not None and not self.is_away())
    @rule()
    def cut_off(self) -> None:
        async def stop() -> None:
            self.service.stop(grace=0)
            await self.service.wait_stopped()

        self.portal.run(stop)
        for counted in self.endpoints.values():
            for held in counted.held:
                counted.requests += 1
                counted.errors += 1
                if not held.reply.cancelled():
                    assert error_of(held.reply.result(0)) == "503:Service Stopping"
                if (gate := self.gates.pop(held.data, None)) is not None:
                    self.portal.run(gate.set)
            counted.held.clear()
        self.is_stopping = True
        self._note_end()

    def _note_end(self) -> None:
        """Check a service that has ended, once nothing is held any more."""
        if self.is_stopping and not any(each.held for each in self.endpoints.values()):
            self.running.result(0)
            self.check_books()
            assert [each.subject for each in self.nc._subscriptions if not each.subject.startswith("_INBOX.")] == []
            self.service = self.running = None
            self.endpoints.clear()
            self.is_stopping = False

    # What always holds

    def check_nobody_at(self, subject: str) -> None:
        with pytest.raises(natsery.NoRespondersError):
            self.portal.run(self.client.request, subject)

    @invariant()
    def check_books(self) -> None:
        if self.service is None:
            return
        stats, info = self.portal.run(self.service.stats), self.portal.run(self.service.info)
        wanted = {name: (each.requests, each.errors) for name, each in self.endpoints.items()}
        assert {each.name: (each.num_requests, each.num_errors) for each in stats.endpoints} == wanted
        assert [(each.name, each.subject) for each in info.endpoints] == [(name, name) for name in self.endpoints]
        assert self.service.pending == sum(len(each.held) for each in self.endpoints.values())
        for each in stats.endpoints:
            assert sum(each.failures.values()) == each.num_errors
            assert (each.processing_time > 0) <= (each.num_requests > 0)

    @invariant()
    def check_discovery(self) -> None:
        if self.service is None or self.is_away():
            return
        stats = self.portal.run(self.client.request, "$SRV.STATS.states")
        seen = natsery.ServiceStats.from_json(stats.data)
        assert seen.to_dict() == self.portal.run(self.service.stats).to_dict()
        info = natsery.ServiceInfo.from_json(self.portal.run(self.client.request, "$SRV.INFO.states").data)
        assert info == self.portal.run(self.service.info)

    def teardown(self) -> None:
        try:
            if self.is_away():
                self.reconnect()
            if self.service is not None:
                self.cut_off()
            assert not self.client._requests._pending
        finally:
            self.portal.close()


TestOnTrio = case_of(ServiceStates, "trio")
TestOnAsyncio = case_of(ServiceStates, "asyncio")
