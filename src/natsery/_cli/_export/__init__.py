"""The command that exports statistics to Prometheus."""
