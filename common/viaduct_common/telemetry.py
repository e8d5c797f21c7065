"""Logs, metrics and health of one process."""

import json
import logging
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from types import TracebackType
from typing import Any, Literal, Self, TextIO
from wsgiref.simple_server import WSGIRequestHandler, make_server
from wsgiref.types import StartResponse, WSGIEnvironment

import structlog
from prometheus_client import Counter, Gauge, Histogram, make_wsgi_app

LogFormat = Literal["auto", "json", "console"]

CONNECTED = Gauge("viaduct_bus_connected", "1 while the connection to the broker stands", ["link"])
PUBLISHES = Counter("viaduct_bus_publishes", "Publishes by outcome", ["outcome"])
REQUESTS = Counter("viaduct_requests", "Requests by type and outcome (ok, or the error's code)", ["type", "outcome"])
REQUEST_SECONDS = Histogram("viaduct_request_seconds", "Time from delivery to answer", ["type"])
# One request's two: looking them up by their labels each time costs more than counting.
requests_counted, request_seconds = cache(REQUESTS.labels), cache(REQUEST_SECONDS.labels)
DEAD_LETTERS = Counter("viaduct_dead_letters", "Messages put to the dead letters by us, by code", ["code"])


def configure_logging(service: str, log_format: LogFormat = "auto", level: int = logging.INFO) -> None:
    """Structured logs on stderr: for people on a terminal, JSON otherwise; library logs look the same.

    Ours are rendered and written at once: through stdlib's logging each would cost three times as much, and there is
    one for every request.
    """
    as_json = log_format == "json" or (log_format == "auto" and not sys.stderr.isatty())
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", key="ts"),
        _add_service(service),
    ]
    renderer: structlog.types.Processor
    if as_json:
        shared.append(structlog.processors.format_exc_info)
        renderer = _as_json
    else:
        renderer = structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: _Lines(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for chatty in ("httpx", "httpcore"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    for told_by_us in ("aio_pika", "aiormq"):  # the bus says what happened to its connections, once
        logging.getLogger(told_by_us).setLevel(logging.CRITICAL)


def _add_service(service: str) -> structlog.types.Processor:
    def add(_logger: Any, _method: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
        event["service"] = service
        return event

    return add


_encode = json.JSONEncoder(default=repr).encode


def _as_json(_logger: Any, _method: str, event: structlog.types.EventDict) -> str:
    return _encode(event)


class _Lines:
    """Whole lines, each in one write. A log that cannot be written, as on a full disk, fails no request."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def info(self, line: str) -> None:
        with suppress(OSError, ValueError):
            self._file.write(line + "\n")
            self._file.flush()

    debug = warning = error = critical = info


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """A scrape is not worth a log line."""


class HealthServer:
    """`/metrics`, `/livez` and `/readyz` by HTTP, in a thread of its own.

    A thread, so that a blocked event loop can still be looked at.

    Args:
        listen: `address:port`; None serves nothing. Port 0 takes a free one.
        ready: what `/readyz` answers by: 200 or 503. Called in the thread.
    """

    def __init__(self, listen: str | None, ready: Callable[[], bool]) -> None:
        self._listen = listen
        self._ready = ready
        self._metrics = make_wsgi_app()
        self._thread: threading.Thread | None = None
        self.port: int | None = None

    def __enter__(self) -> Self:
        if self._listen:
            host, _, port = self._listen.rpartition(":")
            self._server = make_server(host, int(port), self._app, handler_class=_QuietHandler)
            self.port = self._server.server_port
            self._thread = threading.Thread(target=self._server.serve_forever, name="health", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()

    def _app(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "/")
        if path == "/metrics":
            answer: Iterable[bytes] = self._metrics(environ, start_response)
            return answer
        if path in {"/livez", "/readyz"}:
            good = path == "/livez" or self._ready()
            start_response("200 OK" if good else "503 Service Unavailable", [("Content-Type", "text/plain")])
            return [b"ok\n" if good else b"not ready\n"]
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"try /metrics, /livez or /readyz\n"]
