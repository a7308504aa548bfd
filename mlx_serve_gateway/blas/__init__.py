"""The libraries that multiply matrices on a CPU: which there are, and which a worker starts with.

MLX's own is a reference implementation, 30 times slower than an optimised one, and can only be
replaced before a process starts. Nothing of this is done on macOS, where Metal computes.
"""
