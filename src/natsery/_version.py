"""The version of natsery."""

__version__ = "0.1.0"
"""The version of natsery, as the distribution has it."""
