"""The commands that find and call services."""
