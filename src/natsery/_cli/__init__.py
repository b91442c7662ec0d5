"""The ``natsery`` command; needs the extra ``cli`` (click and rich)."""
