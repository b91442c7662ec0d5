"""The service layer: everything between a handler and the seam, on anyio alone."""
