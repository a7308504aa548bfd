from mlx_serve_common.durable import exchange, sync, sync_tree

__all__ = ["exchange", "sync", "sync_tree"]
