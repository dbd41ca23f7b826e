"""What several tests of the heart share: records, time that a test turns, and stand-ins by shape.

`TurnedLoop` is an event loop whose time jumps to the next timer instead of waiting for it: `asyncio.sleep(3600)` takes
no time, and what falls due in between happens in its order.
"""

import asyncio
import functools
import selectors
from dataclasses import replace

from evedge.core.errors import Outage
from evedge.core.lanes import LaneCounts
from evedge.core.life import OpenCommand
from evedge.core.model import Record

EPOCH_MS = 1_790_000_000_000
"""The wall clock when a turned loop starts: 2026-09-21T14:13:20Z."""


def record(value=b"{}", *, lane="telemetry", durable=True, key=b"site-042/rp-01", headers=(), timestamp_ms=EPOCH_MS):
    return Record(lane, key, value, tuple(headers), timestamp_ms, durable)


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self):
        super().__init__()
        self.now_s = 1000.0

    def select(self, timeout=None):
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if timeout is None:
            ready = super().select(10)
            if not ready:
                raise RuntimeError("everything waits, and nothing will ever happen")
            return ready
        self.now_s += timeout
        return []


class TurnedLoop(asyncio.SelectorEventLoop):
    def __init__(self):
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self):
        return self._jumping.now_s


def turned(test):
    """Runs an async test in a turned loop of its own."""

    @functools.wraps(test)
    def run(*args, **keys):
        with asyncio.Runner(debug=True, loop_factory=TurnedLoop) as runner:
            return runner.run(test(*args, **keys))

    return run


class LoopClock:
    """A flow's clock that shows the running loop's time. `off_ms` sets the wall clock, and only that, wrong."""

    def __init__(self):
        self.off_ms = 0

    def wall_ms(self):
        return EPOCH_MS + round((self.monotonic_s() - 1000.0) * 1000) + self.off_ms

    def monotonic_s(self):
        return asyncio.get_running_loop().time()


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self, now_ms=EPOCH_MS):
        self.now_ms = now_ms
        self.now_s = 1000.0

    def wall_ms(self):
        return self.now_ms

    def monotonic_s(self):
        return self.now_s


class Alerts:
    """Which alerts are raised; `told` is everything that was said, in order."""

    def __init__(self):
        self.raised = {}
        self.told = []

    def raise_alert(self, kind, message, *, recharge_point=None, severity=None, details=None):
        if kind not in self.raised:
            self.told.append(("raised", kind))
        self.raised[kind] = message

    def clear_alert(self, kind, *, recharge_point=None):
        if self.raised.pop(kind, None) is not None:
            self.told.append(("cleared", kind))


async def settle():
    """Lets every task run until it waits for something."""
    for _ in range(50):
        await asyncio.sleep(0)


async def until(condition, *, turns=100_000):
    """Waits, turn by turn of the loop, until the condition holds."""
    for _ in range(turns):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it did not happen")


class Journal:
    """By the shape that intake, forwarder and commander know. Nothing durable resolves until `disk` is True.

    `letters` and `dead` are what was refused; `log` says in which order things were confirmed and given back.
    """

    def __init__(self, *, disk=True):
        self.disk = disk
        self.accepted = []
        self.received = []
        self.dead = []
        self.letters = []
        self.log = []
        self.pending = []
        self.queues = {}
        self.taken = {}
        self.counts = {}
        self.filled = {}
        self.number = 0

    # As the intake knows it.

    def accept(self, records, received=()):
        self.accepted += records
        self.received += received
        for one in records:
            self.number += 1
            self.queue(one.lane).append(replace(one, number=self.number))
            self.counts[one.lane].accepted += 1
            self.filled[one.lane].set()
        if not received and not any(one.durable for one in records):
            return None
        return self._future()

    def refuse(self, dead, letter):
        self.dead.append(dead)
        if dead.record.number:
            self._forget(dead.record)
        counts = self.lane_counts(dead.record.lane)
        counts.accepted += not dead.record.number
        counts.dropped["dead_letter"] += 1
        if letter is None:
            return None
        self.letters.append(letter)
        return self.accept([letter])

    def release(self, client_id, packet_ids):
        self.log.append(("released", client_id, tuple(packet_ids)))
        return self._future()

    def received_ids(self, client_id):
        return frozenset(packet_id for client, packet_id in self.received if client == client_id)

    def forget_session(self, client_id):
        self.log.append(("forgotten", client_id))

    def _future(self):
        done = asyncio.get_running_loop().create_future()
        if self.disk:
            done.set_result(None)
        else:
            self.pending.append(done)
        return done

    def write(self, error=None):
        """The disk has it, or the journal closed with an error."""
        for done in self.pending:
            if not done.done():
                done.set_exception(error) if error else done.set_result(None)
        self.pending.clear()

    # As the forwarder knows it.

    def queue(self, lane):
        self.lane_counts(lane)
        self.filled.setdefault(lane, asyncio.Event())
        return self.queues.setdefault(lane, [])

    def lane_counts(self, lane):
        return self.counts.setdefault(lane, LaneCounts())

    def lanes(self):
        return self.counts

    async def wait(self, lane):
        self.queue(lane)
        await self.filled[lane].wait()

    async def take(self, lane, max_records, max_bytes):
        queue = self.queue(lane)
        found = queue[:max_records]
        del queue[:max_records]
        self.taken.update({one.number: one for one in found})
        if not queue:
            self.filled[lane].clear()
        return found

    def confirm(self, lane, records):
        for one in records:
            self._forget(one)
            self.counts[lane].confirmed += 1
            self.log.append(("confirmed", int(one.value)))

    def give_back(self, lane, records):
        back = sorted(records, key=lambda one: one.number)
        for one in back:
            self._forget(one)
        self.queue(lane)[:0] = back
        self.filled[lane].set()
        self.log.append(("given back", [int(one.value) for one in back]))

    def _forget(self, one):
        assert self.taken.pop(one.number, None) is not None, f"{one} was not taken, or is settled twice"


class Router:
    def __init__(self):
        self.published = []

    def publish(self, topic, payload, qos, retain):
        self.published.append((topic, payload, qos, retain))


class Store:
    """What survives a restart, by the shape that lives and commander know. `log` holds every call in its order."""

    def __init__(self, *, disk=True):
        self.disk = disk
        self.closed = False
        self.changes = []
        self.commands = {}
        self.results = {}
        self.desired = {}
        self.forgotten = []
        self.pending = []

    def record(self, changes, results, desired=()):
        done = asyncio.get_running_loop().create_future()
        self.pending.append((done, changes, results, desired))
        if self.disk:
            self.write()
        return done

    def write(self):
        """The disk has it."""
        for done, changes, results, desired in self.pending:
            self.changes += changes
            self.commands.update({change.id: change for change in changes})
            self.results.update({one.mark: one for one in results})
            self.desired.update(desired)
            if not done.done():
                done.set_result(None)
        self.pending.clear()

    def results_kept(self, marks):
        if self.closed:
            raise Outage("the store is closed")
        for mark in marks:
            self.results.pop(mark, None)

    async def pending_results(self):
        return list(self.results.values())

    async def known(self, command_id):
        return command_id in self.commands

    def forget_commands(self, now_ms):
        self.forgotten.append(now_ms)

    def opened(self):
        """The commands that have not ended, as the next run finds them."""
        return [
            OpenCommand(change.command, change.step, change.intent)
            for change in self.commands.values()
            if not change.final
        ]


class Results:
    """Where results are told. `kept` False: each waits until `keep`."""

    def __init__(self, *, kept=True):
        self.kept = kept
        self.local = False
        self.told = []
        self.waiting = []

    def result(self, result, now_ms):
        self.told.append(result)
        if self.local:
            return None
        done = asyncio.get_running_loop().create_future()
        self.waiting.append(done)
        if self.kept:
            self.keep()
        return done

    def keep(self, error=None):
        for done in self.waiting:
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)
                done.exception()
        self.waiting.clear()

    def of(self, command_id):
        """A command's steps, in their order."""
        return [str(one.state) for one in self.told if one.id == command_id]

    def end(self, command_id):
        """A command's end, which must be there exactly once."""
        (end,) = [one for one in self.told if one.id == command_id and one.final]
        return end
