"""A second reading of the vendors' tables, typed from them by hand and decoded by other means than the product's.

Per profile and measurand: address (zero-based, of the connector asked for), type letter for `struct`, scale. `+200`
marks registers at the station's unit id. What is coded (state, plugged, error_code) is tested case by case elsewhere.
"""

from __future__ import annotations

import struct

SHEETS = {
    "abb-terra-ac": {
        "current_max_a": (0x4006, "I", 0.001),
        "current_limit_a": (0x400E, "I", 0.001),
        "current_l1_a": (0x4010, "I", 0.001),
        "current_l2_a": (0x4012, "I", 0.001),
        "current_l3_a": (0x4014, "I", 0.001),
        "voltage_l1_v": (0x4016, "I", 0.1),
        "voltage_l2_v": (0x4018, "I", 0.1),
        "voltage_l3_v": (0x401A, "I", 0.1),
        "active_power_w": (0x401C, "I", 1),
        "session_energy_wh": (0x401E, "I", 1),
    },
    "keba-kecontact-p40": {
        "current_l1_a": (1008, "I", 0.001),
        "current_l2_a": (1010, "I", 0.001),
        "current_l3_a": (1012, "I", 0.001),
        "active_power_w": (1020, "I", 0.001),
        "energy_import_wh": (1036, "I", 0.1),
        "voltage_l1_v": (1040, "I", 1),
        "voltage_l2_v": (1042, "I", 1),
        "voltage_l3_v": (1044, "I", 1),
        "current_limit_a": (1100, "I", 0.001),
        "current_max_a": (1110, "I", 0.001),
        "session_energy_wh": (1502, "I", 0.1),
    },
    "alfen-eve-ng9xx": {
        "voltage_l1_v": (306, "f", 1),
        "voltage_l2_v": (308, "f", 1),
        "voltage_l3_v": (310, "f", 1),
        "current_l1_a": (320, "f", 1),
        "current_l2_a": (322, "f", 1),
        "current_l3_a": (324, "f", 1),
        "active_power_l1_w": (338, "f", 1),
        "active_power_l2_w": (340, "f", 1),
        "active_power_l3_w": (342, "f", 1),
        "active_power_w": (344, "f", 1),
        "energy_import_wh": (374, "d", 1),
        "current_limit_a": (1206, "f", 1),
        "temperature_c": (1102, "f", 1, 200),
    },
    "phoenix-contact-charx-sec-3xxx": {
        "current_max_a": (1101, "H", 1),
        "voltage_l1_v": (1232, "i", 0.001),
        "voltage_l2_v": (1234, "i", 0.001),
        "voltage_l3_v": (1236, "i", 0.001),
        "current_l1_a": (1238, "i", 0.001),
        "current_l2_a": (1240, "i", 0.001),
        "current_l3_a": (1242, "i", 0.001),
        "active_power_w": (1244, "i", 0.001),
        "energy_import_wh": (1250, "Q", 1),
        "session_duration_s": (1287, "I", 1),
        "session_energy_wh": (1289, "Q", 1),
        "current_limit_a": (1297, "H", 1),
    },
}


class Device:
    """A device's holding registers as plain memory, by unit id and address; what was never set is 0."""

    def __init__(self) -> None:
        self.memory: dict[tuple[int, int], int] = {}

    def put(self, unit_id: int, address: int, letter: str, number: float) -> None:
        data = struct.pack(">" + letter, number)
        for index in range(len(data) // 2):
            self.memory[unit_id, address + index] = data[2 * index] << 8 | data[2 * index + 1]

    def put_text(self, unit_id: int, address: int, text: str, words: int) -> None:
        data = text.encode().ljust(words * 2, b"\0")
        for index in range(words):
            self.memory[unit_id, address + index] = data[2 * index] << 8 | data[2 * index + 1]

    def answer(self, blocks):
        return {
            block: [self.memory.get((block.unit_id, block.address + index), 0) for index in range(block.count)]
            for block in blocks
        }
