"""``natsery run``: serves a module's services, in one process or under a supervisor."""
