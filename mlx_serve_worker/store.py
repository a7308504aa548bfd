from mlx_serve_common.store import Store, name_taken

__all__ = ["Store", "name_taken"]
