"""What listeners are told of a status."""

import msgspec

from evedge.core.model import Link
from evedge.web.changes import NOTHING, changes
from status_example import STATUS

replace = msgspec.structs.replace
FIRST, SECOND = STATUS.recharge_points


def test_time_that_passes_is_no_change():
    later = replace(
        STATUS,
        gateway=replace(STATUS.gateway, uptime_s=11_105.0),
        recharge_points=[replace(FIRST, age_s=5.4), SECOND],
    )
    assert changes(STATUS, later) == NOTHING
    assert msgspec.json.encode(NOTHING) == b"{}"


def test_only_the_recharge_points_that_changed_are_told_and_each_whole():
    offline = replace(FIRST, state=Link.OFFLINE, reason="no answer", age_s=3.0)
    told = msgspec.json.decode(msgspec.json.encode(changes(STATUS, replace(STATUS, recharge_points=[offline, SECOND]))))
    assert list(told) == ["recharge_points"]
    assert told["recharge_points"] == [msgspec.to_builtins(offline)]


def test_every_other_part_is_told_whole():
    later = replace(
        STATUS,
        gateway=replace(STATUS.gateway, state=Link.DEGRADED, reason="it is stopping"),
        links=replace(STATUS.links, kafka=None),
        queues=[],
        alerts=[],
    )
    told = changes(STATUS, later)
    assert (told.gateway, told.links, told.queues, told.alerts) == (later.gateway, later.links, [], [])
    assert msgspec.json.decode(msgspec.json.encode(told))["alerts"] == []
