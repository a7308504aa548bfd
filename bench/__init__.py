"""How fast this server is, beside what a user would pick instead: ``scripts/bench``."""
