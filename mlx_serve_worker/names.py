from mlx_serve_common.names import check_name, clash_key

__all__ = ["check_name", "clash_key"]
