"""What a user holds: connections, handles, batch re-runs, the command line and what a deployment needs."""
