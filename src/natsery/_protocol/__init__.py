"""The NATS client protocol without I/O: bytes in, events out; values in, bytes out."""
