"""The commands ``mlx-serve``, ``mlx-serve-ctl`` and ``mlx-llm-server``.

Invariants: a command module imports the standard library and click; everything heavier is imported
inside the command that needs it, so that ``--help`` stays instant.
"""
