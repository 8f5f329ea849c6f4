"""A device-eligibility engine: may this device be used with this SIM?"""

__version__ = "0.1.0"
