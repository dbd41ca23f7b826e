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


def test_of_recharge_points_only_the_fields_that_changed_are_told():
    offline = replace(FIRST, state=Link.OFFLINE, reason="no answer", age_s=3.0)
    told = msgspec.json.decode(msgspec.json.encode(changes(STATUS, replace(STATUS, recharge_points=[offline, SECOND]))))
    assert list(told) == ["recharge_points"]
    assert told["recharge_points"] == [{"id": "rp-01", "age_s": 3.0, "state": "offline", "reason": "no answer"}]


def test_a_value_that_is_gone_is_told_by_all_that_are_left():
    fewer = replace(FIRST, values={"state": "charging"}, measured_at=None)
    (told,) = changes(STATUS, replace(STATUS, recharge_points=[fewer, SECOND])).recharge_points
    assert told == {"id": "rp-01", "age_s": 0.4, "values": {"state": "charging"}, "measured_at": None}


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
