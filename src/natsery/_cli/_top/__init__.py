"""``natsery top``: shows live statistics of services."""
