"""aiokafka's own log, tamed: while Kafka is away it writes some forty lines a second, each true and none needed.

`tame()` puts one handler on the logger `aiokafka` and keeps its lines from going further. What is lost and found is
told by the links themselves; of aiokafka's lines one a minute passes, at level info, with the count of the others. The
last cause of a failed connection is kept, because aiokafka tells it to its log only.
"""

from __future__ import annotations

import logging
import time

from aiokafka.errors import StaleMetadata

from evedge.links.kafka_words import connect_words

INTERVAL_S = 60.0
_CONNECT_FAILED = ("Unable connect", "Unable to request metadata")
"""client.py: 'Unable connect to "%s:%s": %s', '… to node with id %s: %s', 'Unable to request metadata from …: %s'; the
last argument is the error."""

_log = logging.getLogger(__name__)  # the standard library's: it stays silent where nobody set logging up


class AiokafkaLog(logging.Handler):
    """Counts warnings and errors, lets one pass per interval, remembers why the last connection failed."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._held_back = 0
        self._quiet_until = 0.0
        self._connect_error: BaseException | None = None

    def emit(self, record: logging.LogRecord) -> None:
        if record.msg.startswith(_CONNECT_FAILED) and isinstance(record.args, tuple):
            error = record.args[-1]
            if isinstance(error, BaseException) and not isinstance(error, StaleMetadata):  # that one only follows
                self._connect_error = error
        now = time.monotonic()
        if now < self._quiet_until:
            self._held_back += 1
            return
        self._quiet_until = now + INTERVAL_S
        _log.info("aiokafka: %s (%d more lines held back)", record.getMessage(), self._held_back)
        self._held_back = 0

    def forget_connect_error(self) -> None:
        """Called before a connection is tried."""
        self._connect_error = None

    @property
    def connect_cause(self) -> BaseException | None:
        """Why the last connection failed."""
        return self._connect_error

    @property
    def connect_error(self) -> str | None:
        """The same in words for an operator."""
        return None if self._connect_error is None else connect_words(self._connect_error)


def tame() -> AiokafkaLog:
    """The one handler of this process; puts it in place at the first call."""
    logger = logging.getLogger("aiokafka")
    for handler in logger.handlers:
        if isinstance(handler, AiokafkaLog):
            return handler
    handler = AiokafkaLog()
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING)  # its debug and info lines are made for each request
    logger.propagate = False
    return handler
