"""Which tests take long: what ``pytest -m "not slow"`` leaves out, so that the rest takes less than twenty seconds."""

from __future__ import annotations

from fnmatch import fnmatch
from functools import cache
from pathlib import Path

TESTS = Path(__file__).parent

SLOW_FILES = (
    "cli/test_cells.py",
    "cli/test_command_page.py",
    "cli/test_export_command.py",
    "cli/test_failures.py",
    "cli/test_health.py",
    "cli/test_http.py",
    "cli/test_metrics.py",
    "cli/test_multiprocess.py",
    "cli/test_odd_replies.py",
    "cli/test_one_endpoint.py",
    "cli/test_request_command.py",
    "cli/test_run_*.py",
    "cli/test_schema_command.py",
    "cli/test_server_command.py",
    "cli/test_snapshots.py",
    "cli/test_systemd.py",
    "cli/test_top_command.py",
    "cli/test_watchdog.py",
    "cli/test_worker_process.py",
    "cli/test_workers.py",
    "client/test_calls.py",
    "client/test_discovery.py",
    "client/test_schema_request.py",
    "codecs/test_hostile.py",
    "core/test_choice.py",
    "core/test_endpoint_queue.py",
    "core/test_frame_buffer.py",
    "core/test_handlers.py",
    "core/test_leaks.py",
    "core/test_reader.py",
    "native/test_answers.py",
    "native/test_authentication.py",
    "native/test_cancellation.py",
    "native/test_changing_credentials.py",
    "native/test_dead_links.py",
    "native/test_direct_stream.py",
    "native/test_forks.py",
    "native/test_full_buffers.py",
    "native/test_handover.py",
    "native/test_native_connection.py",
    "native/test_reconnect.py",
    "native/test_resolver.py",
    "native/test_tls.py",
    "native/test_tls_stream.py",
    "native/test_untrusted_peers.py",
    "nats_py/test_bridge*.py",
    "nats_py/test_client_drain.py",
    "nats_py/test_dead_links.py",
    "nats_py/test_forks.py",
    "nats_py/test_full_buffers.py",
    "nats_py/test_hazards.py",
    "nats_py/test_incoming.py",
    "nats_py/test_never_stuck.py",
    "nats_py/test_private_names.py",
    "nats_py/test_safe_client.py",
    "otel/test_otel.py",
    "protocol/test_parser.py",
    "service/test_floods.py",
    "service/test_many_endpoints.py",
    "service/test_statistics.py",
    "service/test_streams.py",
    "soak/test_*.py",
    "test_*_page*.py",
    "test_benchmarks.py",
    "test_cancellation.py",
    "test_checkpoints.py",
    "test_connection_states.py",
    "test_contract.py",
    "test_demo.py",
    "test_dialects.py",
    "test_documents.py",
    "test_drain.py",
    "test_examples.py",
    "test_fairness.py",
    "test_interrupts.py",
    "test_layers.py",
    "test_memory_broker.py",
    "test_one_task.py",
    "test_order.py",
    "test_pages.py",
    "test_pictures.py",
    "test_plugin.py",
    "test_reference.py",
    "test_servers.py",
    "test_service_scope.py",
    "test_service_states.py",
    "test_stop_signals.py",
    "test_streams.py",
)
"""Patterns of their paths: those that start programs or many servers, wait, or repeat something very often."""

QUICK_SETTINGS = ("trio-native", "asyncio-adapted", "trio-bridged")
"""Each transport and each backend; with the others, tests of connections are slow."""


FILES_OF_BACKENDS = (
    "client/test_stream.py",
    "native/*.py",
    "nats_py/*.py",
    "service/test_concurrency.py",
    "service/test_deadlines.py",
    "service/test_lifespan.py",
    "service/test_threads.py",
    "test_serve.py",
    "test_stopping.py",
)
"""Patterns of the files that show that each backend works; the other tests are quick on trio, and slow elsewhere."""


@cache
def is_slow_file(path: Path) -> bool:
    return _is_one_of(SLOW_FILES, path)


@cache
def is_file_of_backends(path: Path) -> bool:
    return _is_one_of(FILES_OF_BACKENDS, path)


def _is_one_of(patterns: tuple[str, ...], path: Path) -> bool:
    if not path.is_relative_to(TESTS):
        return False
    name = path.relative_to(TESTS).as_posix()
    return any(fnmatch(name, pattern) for pattern in patterns)
