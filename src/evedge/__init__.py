"""evedge: the edge gateway for sites that recharge electric vehicles."""

__version__ = "0.1.0"
