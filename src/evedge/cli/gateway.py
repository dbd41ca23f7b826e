"""`evedge --config FILE`: run the gateway in the foreground until SIGTERM or SIGINT; SIGHUP applies a changed file."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
from pathlib import Path

import structlog

from evedge import logs
from evedge.app import Addresses, Gateway, Signals
from evedge.config import Config, load
from evedge.config_profiles import profile_rule, resolve_profiles
from evedge.core.errors import EvedgeError, UsageError
from evedge.links.systemd import Systemd
from evedge.runner import run_in_loop

log = structlog.get_logger()

START_GRACE_S = 5.0
"""How long a stop waits for a start that has begun; a full disk would keep both waiting for ever."""


def run_gateway(path: Path) -> int:
    """The exit status: 0 after a clean stop, 1 after trouble. Raises UsageError for a configuration that is wrong."""
    config = load(path, rules=[profile_rule])
    logs.configure(config.log.level, config.log.format)
    _allow_sockets()
    return run_in_loop(_serve(path, config))


def _allow_sockets() -> None:
    """As many open files as the system grants: the usual 1024 are fewer than `mqtt.max_clients` and its strangers."""
    with contextlib.suppress(OSError, ValueError):  # a sandbox may forbid even to ask
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != hard:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _serve(path: Path, config: Config) -> int:
    """Run, and run again with the new configuration whenever SIGHUP brought a good one.

    One that turns out not to work (its port is taken, say) gives way to the one before it.
    """
    systemd = Systemd()
    former: Config | None = None
    while True:
        run = _Run(path)
        run.hear_signals()
        try:
            gateway = Gateway(config, resolve_profiles(config), systemd=systemd, ready=run.started)
            await _run_until_stopped(gateway, run)
        except EvedgeError as error:
            if former is None or run.ready:
                if isinstance(error, UsageError):
                    raise
                log.error("gateway_failed", error=str(error))
                return 1
            log.error("reload_failed", error=str(error), then="the former configuration goes on")
            config, former = former, None
        except Exception:
            log.exception("gateway_failed")
            return 1
        else:
            if run.changed is None or not run.signals.reload.is_set():
                return 0
            config, former = run.changed, config
        logs.configure(config.log.level, config.log.format)


async def _run_until_stopped(gateway: Gateway, run: _Run) -> None:
    """The gateway stops by itself once it has started; a start that hangs is cut."""
    running = asyncio.create_task(gateway.run(run.signals), name="gateway")
    stopping = asyncio.create_task(run.signals.stop.wait(), name="gateway[stop]")
    try:
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait({running}, timeout=START_GRACE_S)
        if running.done() or run.ready:
            await running
        else:
            log.warning("start_cut", reason="asked to stop before everything was open")
    finally:
        stopping.cancel()
        running.cancel()
        await asyncio.gather(running, stopping, return_exceptions=True)


class _Run:
    """One run's signals, and what came of them."""

    def __init__(self, path: Path) -> None:
        self.signals = Signals(asyncio.Event(), asyncio.Event())
        self.changed: Config | None = None
        self.ready = False
        self._path = path

    def hear_signals(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.signals.on_signal)

    def started(self, addresses: Addresses) -> None:  # noqa: ARG002 -- the log tells them already
        self.ready = True

    def _reload(self) -> None:
        changed = _reloaded(self._path)
        if changed is not None:
            self.changed = changed
            self.signals.on_reload()


def _reloaded(path: Path) -> Config | None:
    """The changed file's configuration; None when it is wrong: then everything stays as it is."""
    try:
        config = load(path, rules=[profile_rule])
    except UsageError as error:
        for line in str(error).splitlines():
            log.error("reload_refused", mistake=line)
        return None
    log.info("reload_accepted", file=str(path))
    return config
