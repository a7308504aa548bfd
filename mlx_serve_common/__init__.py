"""What gateway and worker share: the wire, errors, configuration, model manifests, paths, logs.

Imports neither sibling and nothing heavier than msgspec and PyYAML: both processes stay light.
"""

DISTRIBUTION = "mlx-serve-gateway"
VERSION = "0.1.0"
