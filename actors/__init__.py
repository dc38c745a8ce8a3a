"""Ray: the thread actor, the supervisor, the warm pool, the fan-out of tasks and the messages between them."""
