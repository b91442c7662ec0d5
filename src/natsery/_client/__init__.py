"""The other side of a service: requests, and discovery."""
