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
    """Run, and run again with the new configuration whenever SIGHUP brought a good one."""
    systemd = Systemd()
    while True:
        signals = Signals(asyncio.Event(), asyncio.Event())
        changed: list[Config] = []

        def reload(signals: Signals = signals, changed: list[Config] = changed) -> None:
            new = _reloaded(path)
            if new is not None:
                changed.append(new)
                signals.on_reload()

        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, reload)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, signals.on_signal)
        try:
            await Gateway(config, resolve_profiles(config), systemd=systemd, ready=_say_ready).run(signals)
        except UsageError:
            raise
        except EvedgeError as error:
            log.error("gateway_failed", error=str(error))
            return 1
        except Exception:
            log.exception("gateway_failed")
            return 1
        if not signals.reload.is_set():
            return 0
        config = changed[-1]
        logs.configure(config.log.level, config.log.format)


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


def _say_ready(addresses: Addresses) -> None:
    """The log says it already."""
