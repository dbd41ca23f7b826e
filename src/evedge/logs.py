"""Logging: one line an event on standard error; for people on a terminal, as JSON elsewhere.

Our events and the libraries' go through the same processors. Nothing here knows what is logged.
"""

from __future__ import annotations

import logging
import sys
from typing import TextIO

import msgspec
import structlog
from structlog.typing import EventDict, Processor

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
QUIET = {
    "amqtt": logging.ERROR,
    "transitions": logging.ERROR,
    "aiohttp": logging.WARNING,
    "asyncio": logging.WARNING,
    "pymodbus": logging.CRITICAL,
    "aiokafka": logging.WARNING,
    "mqtt": logging.ERROR,
}
"""Libraries that say more than an operator can use; what matters of theirs is told by our own events."""


def configure(level: str, log_format: str, stream: TextIO | None = None) -> None:
    """Set up structlog and the standard library's logging. `log_format`: auto, console or json."""
    stream = stream if stream is not None else sys.stderr
    for_people = log_format == "console" or (log_format == "auto" and stream.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if for_people else "iso", utc=not for_people),
        structlog.processors.StackInfoRenderer(),
    ]
    renderers: list[Processor] = (
        [structlog.dev.ConsoleRenderer(colors=stream.isatty(), pad_event_to=24)]
        if for_people
        else [structlog.processors.format_exc_info, _json]
    )
    structlog.configure(
        processors=[*shared, *renderers],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
        cache_logger_on_first_use=False,  # set_log_level changes it while running
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(LEVELS[level])
    for name, quiet_level in QUIET.items():
        logging.getLogger(name).setLevel(max(quiet_level, LEVELS[level]))


def _json(_: object, __: str, event: EventDict) -> str:
    return msgspec.json.encode(event, enc_hook=str).decode()
