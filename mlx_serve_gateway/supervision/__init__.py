"""The server as a service: what launchd or systemd is told to run, and asking them to."""
