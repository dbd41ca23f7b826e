from evedge.core.measurands import MEASURANDS, Kind, State


def test_a_measurand_that_is_a_quantity_ends_in_its_unit():
    endings = {"W": "_w", "A": "_a", "V": "_v", "Wh": "_wh", "s": "_s", "°C": "_c", "%": "_percent"}
    for name, measurand in MEASURANDS.items():
        assert name == measurand.name
        assert (measurand.unit is not None) == (measurand.kind is Kind.NUMBER)
        assert measurand.unit is None or name.endswith(endings[measurand.unit])


def test_the_states_are_those_of_the_contract():
    assert [str(state) for state in State] == [
        "available", "preparing", "charging", "suspended_ev", "suspended_evse",
        "finishing", "reserved", "unavailable", "faulted", "unknown",
    ]  # fmt: skip
