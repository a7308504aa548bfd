"""What a model may be converted to, and what the result is called."""

import pytest

from mlx_serve_common.conversion import Conversion, Dtype, Form, Scheme, conversion, scheme
from mlx_serve_common.errors import ErrorCode, ServeError


@pytest.mark.parametrize(
    ("quantize", "dtype", "name", "of"),
    [
        ("4bit", None, "M-4bit", Scheme(64, 4, "affine")),
        ("8bit", None, "M-8bit", Scheme(64, 8, "affine")),
        ("mxfp4", None, "M-mxfp4", Scheme(32, 4, "mxfp4")),
        ("mxfp8", "bfloat16", "M-bf16-mxfp8", Scheme(32, 8, "mxfp8")),
        ("nvfp4", "float32", "M-fp32-nvfp4", Scheme(16, 4, "nvfp4")),
        (None, "float16", "M-fp16", None),
    ],
)
def test_names(quantize: Form | None, dtype: Dtype | None, name: str, of: Scheme | None) -> None:
    made = conversion(quantize, dtype)

    assert made == Conversion(of, dtype)
    assert made is not None and made.name_of("M") == name


def test_nothing_to_convert() -> None:
    assert conversion(None, None) is None


@pytest.mark.parametrize(
    ("mode", "bits", "group_size", "param"),
    [
        (None, None, None, "bits"),
        ("affine", None, 32, "bits"),
        (None, 5, None, "bits"),
        ("gguf", None, None, "mode"),
        ("mxfp4", 8, None, "mode"),
        ("nvfp4", None, 32, "mode"),
        (None, 8, 16, "group_size"),
    ],
)
def test_what_is_not_offered(
    mode: str | None, bits: int | None, group_size: int | None, param: str
) -> None:
    with pytest.raises(ServeError) as refused:
        scheme(mode, bits, group_size)

    assert (refused.value.code, refused.value.param) == (ErrorCode.INVALID_REQUEST, param)


@pytest.mark.parametrize(
    ("made", "size"),
    [
        (Conversion(Scheme(64, 4, "affine")), 500),
        (Conversion(Scheme(64, 8, "affine"), "float32"), 900),
        (Conversion(dtype="float32"), 3200),
        (Conversion(dtype="float16"), 1600),
    ],
)
def test_size_of_what_is_made(made: Conversion, size: int) -> None:
    assert made.made_bytes(1600) == size
