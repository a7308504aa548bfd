"""The commands of ``mlx-serve-ctl``: a running gateway, here or elsewhere, over HTTP alone."""
