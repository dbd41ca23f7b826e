"""Alerts: raised once, cleared once."""

import msgspec

from evedge.core.alerts import AlertBook
from evedge.core.model import AlertState, Severity

NOW_MS = 1_763_888_400_123


def test_raising_what_is_raised_changes_nothing():
    book = AlertBook("site-042")
    first = book.raise_alert("offline", "no answer", NOW_MS, recharge_point="rp-01", severity=Severity.ERROR)
    assert book.raise_alert("offline", "still none", NOW_MS + 1, recharge_point="rp-01") is None
    assert book.open() == (first,)


def test_a_cleared_alert_is_the_one_that_was_raised():
    book = AlertBook("site-042")
    raised = book.raise_alert("offline", "no answer", NOW_MS, recharge_point="rp-01", details={"misses": 3})
    cleared = book.clear("offline", NOW_MS + 1000, recharge_point="rp-01")
    assert cleared.id == raised.id
    assert (raised.state, cleared.state) == (AlertState.RAISED, AlertState.CLEARED)
    assert (cleared.raised_at, cleared.cleared_at) == ("2025-11-23T09:00:00.123Z", "2025-11-23T09:00:01.123Z")
    assert cleared.details == {"misses": 3}
    assert book.open() == ()


def test_clearing_what_was_not_raised_says_nothing():
    book = AlertBook("site-042")
    book.raise_alert("offline", "no answer", NOW_MS, recharge_point="rp-01")
    assert book.clear("offline", NOW_MS, recharge_point="rp-02") is None
    assert book.clear("offline", NOW_MS) is None
    assert book.clear("degraded", NOW_MS, recharge_point="rp-01") is None


def test_a_condition_that_comes_again_has_an_id_of_its_own():
    book = AlertBook("site-042")
    first = book.raise_alert("kafka_lost", "away", NOW_MS)
    book.clear("kafka_lost", NOW_MS + 5)
    assert book.raise_alert("kafka_lost", "away", NOW_MS + 9).id != first.id


def test_an_alert_on_the_wire_has_the_fields_of_the_contract():
    alert = AlertBook("site-042").raise_alert("offline", "no answer", NOW_MS, recharge_point="rp-01")
    assert msgspec.json.decode(msgspec.json.encode(alert)) == {
        "id": f"site-042/rp-01/offline/{NOW_MS}",
        "gateway": "site-042",
        "recharge_point": "rp-01",
        "kind": "offline",
        "severity": "warning",
        "state": "raised",
        "raised_at": "2025-11-23T09:00:00.123Z",
        "message": "no answer",
    }
