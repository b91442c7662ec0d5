"""How commands connect: options, environment, contexts, TLS."""
