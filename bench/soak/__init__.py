"""A mixed load for a while, and whether anything grows with it."""
