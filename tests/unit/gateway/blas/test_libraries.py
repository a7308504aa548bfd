"""Where the optimised libraries are looked for."""

from pathlib import Path

from mlx_serve_gateway.blas.libraries import Kind, search


def make(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_one_of_each_kind_is_found_where_it_is(tmp_path: Path) -> None:
    openblas = make(tmp_path / "x86_64-linux-gnu" / "openblas-pthread" / "libopenblas.so.0")
    blis = make(tmp_path / "x86_64-linux-gnu" / "blis-pthread" / "libblis.so.4")
    make(tmp_path / "x86_64-linux-gnu" / "blis-serial" / "libblis.so.4")
    places = {
        Kind.BLIS: [f"{tmp_path}/*/blis-*/libblis.so.[0-9]"],
        Kind.MKL: [f"{tmp_path}/nowhere/*.so"],
        Kind.OPENBLAS: [f"{tmp_path}/nowhere/*.so", f"{tmp_path}/*/openblas-*/libopenblas.so.0"],
    }

    assert list(search(places).items()) == [(Kind.OPENBLAS, openblas), (Kind.BLIS, blis)]


def test_there_may_be_none() -> None:
    assert search({}) == {}
