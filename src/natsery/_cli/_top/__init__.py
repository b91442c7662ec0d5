"""``natsery top``: watches services live."""
