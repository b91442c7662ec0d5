"""`natsery.connect`: the NATS client protocol on anyio."""
