"""What ``mlx-serve doctor`` looks at: one small function for each check, all in ``table``.

Invariants: looking changes nothing; a verdict that is not ok says what to do about it.
"""
