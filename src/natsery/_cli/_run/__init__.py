"""``natsery run``: serves the services of a module, in one process or under a supervisor."""
