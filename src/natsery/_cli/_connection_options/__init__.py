"""Connection settings of commands: options, environment variables, contexts, TLS."""
