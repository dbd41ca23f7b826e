"""The errors that cross rooms. Links translate foreign errors into these once, at the border.

Two kinds of failure: an `Outage` is retried, a `Refused` is reported; never the other way round.
"""

from __future__ import annotations


class EvedgeError(Exception):
    """Anything evedge raises on purpose. Its text is one clear line for the operator."""


class Outage(EvedgeError):  # noqa: N818 -- it names a condition, not a mistake
    """The other side cannot be reached or does not answer in time. Try again later."""


class Refused(EvedgeError):  # noqa: N818
    """The other side answered, and said no. Trying the same again is of no use."""


class UsageError(EvedgeError):
    """Wrong usage or configuration: exit status 2, nothing was opened."""
