"""`natsery.connect`: NATS on anyio, one reader and one writer task for each network connection."""
