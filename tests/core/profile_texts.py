"""Small profiles for tests: what a file needs at least, with other sections in the place of the usual ones."""

from __future__ import annotations

MINIMAL = {
    "device": '[device]\nvendor = "Test"\nmodel = "One"\n',
    "registers": '[registers]\nmode = { address = 10 }\ncurrent_l1_a = { address = 11, scale = 0.1, unit = "A" }\n',
    "state": '[[state]]\nwhen = "mode == 3"\nis = "charging"\n[[state]]\nwhen = "mode == 0"\nis = "available"\n',
}


def text(**sections: str) -> str:
    return "\n".join((MINIMAL | sections).values())
