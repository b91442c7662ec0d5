"""The version of natsery."""

__version__ = "0.1.0"
