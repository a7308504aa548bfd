"""What a second form of a model is made like: quantized, with weights of another type, or both.

Pure. Invariants: two conversions that are equal make the same of the same weights, under the same
name; a scheme that exists is one that we offer.
"""

from typing import Annotated, Literal

import msgspec

from mlx_serve_common.errors import ErrorCode, ServeError

Mode = Literal["affine", "mxfp4", "mxfp8", "nvfp4"]
Bits = Literal[4, 8]
GroupSize = Literal[32, 64, 128]
Form = Literal["4bit", "8bit", "mxfp4", "mxfp8", "nvfp4"]
"""A scheme in a word, which is also the end of a quantized model's name."""
Dtype = Literal["float16", "bfloat16", "float32"]

USUAL: dict[Mode, tuple[int, int]] = {
    "affine": (64, 4),
    "mxfp4": (32, 4),
    "mxfp8": (32, 8),
    "nvfp4": (16, 4),
}
"""The group size and the bits of each mode; only those of ``affine`` can be chosen."""
ITEM_BYTES: dict[str, int] = {"float16": 2, "bfloat16": 2, "float32": 4}
"""Of one number of each type."""
_DTYPE_NAMES: dict[Dtype, str] = {"float16": "fp16", "bfloat16": "bf16", "float32": "fp32"}
_OFFERED_BITS = (4, 8)
_OFFERED_GROUP_SIZES = (32, 64, 128)


class Scheme(msgspec.Struct, frozen=True):
    """How weights are packed."""

    group_size: Annotated[int, msgspec.Meta(ge=1, le=1024)]
    bits: Annotated[int, msgspec.Meta(ge=1, le=16)]
    mode: Mode

    @property
    def form(self) -> str:
        return f"{self.bits}bit" if self.mode == "affine" else self.mode


class Conversion(msgspec.Struct, frozen=True):
    scheme: Scheme | None = None
    dtype: Dtype | None = None
    """Of the numbers that are not packed; None leaves them as they are."""

    def name_of(self, original: str) -> str:
        """What the converted form of ``original`` is called, unless a person says otherwise."""
        dtype = "" if self.dtype is None else f"-{_DTYPE_NAMES[self.dtype]}"
        form = "" if self.scheme is None else f"-{self.scheme.form}"
        return f"{original}{dtype}{form}"

    def made_bytes(self, weights_bytes: int) -> int:
        """About as many as weights of that size become; rather too many than too few."""
        if self.scheme is not None:
            # Scales and biases take half a bit or a bit more; the originals, 16 bits or more.
            return weights_bytes * (self.scheme.bits + 1) // 16
        return weights_bytes * (2 if self.dtype == "float32" else 1)

    def arguments(self) -> list[str]:
        """As the jobs of the worker package read them."""
        given = [] if self.dtype is None else [f"--dtype={self.dtype}"]
        if self.scheme is not None:
            given += [
                f"--mode={self.scheme.mode}",
                f"--bits={self.scheme.bits}",
                f"--group-size={self.scheme.group_size}",
            ]
        return given


def scheme(mode: str | None, bits: int | None, group_size: int | None) -> Scheme:
    """The one that is asked for in these words, or what is wrong with them."""
    if bits is None and mode in (None, "affine"):
        raise _refused("say how many bits a weight is to have: 8, the recommendation, or 4", "bits")
    chosen: Mode | None = next((known for known in USUAL if known == (mode or "affine")), None)
    if chosen is None:
        named = str(mode)[:40]
        raise _refused(f"there is no mode {named!r}; choose one of {', '.join(USUAL)}", "mode")
    usual_group_size, usual_bits = USUAL[chosen]
    wanted = Scheme(group_size or usual_group_size, bits or usual_bits, chosen)
    if chosen != "affine" and wanted != Scheme(usual_group_size, usual_bits, chosen):
        raise _refused(
            f"{chosen} always has {usual_bits} bits in groups of {usual_group_size}", "mode"
        )
    if wanted.bits not in _OFFERED_BITS:
        raise _refused(f"{wanted.bits} bits are not offered; choose 4 or 8", "bits")
    if chosen == "affine" and wanted.group_size not in _OFFERED_GROUP_SIZES:
        raise _refused(
            f"groups of {wanted.group_size} are not offered; choose 32, 64 or 128", "group_size"
        )
    return wanted


def conversion(quantize: Form | None, dtype: Dtype | None) -> Conversion | None:
    """None if nothing is to be converted."""
    if quantize is None:
        return None if dtype is None else Conversion(dtype=dtype)
    bits = {"4bit": 4, "8bit": 8}.get(quantize)
    chosen = scheme(None if bits else quantize, bits, None)
    return Conversion(chosen, dtype)


def _refused(message: str, param: str) -> ServeError:
    return ServeError(ErrorCode.INVALID_REQUEST, message, param=param)
