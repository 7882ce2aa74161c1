"""Compiled way from bytes, image by image, to float32 whose images lie innermost."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from eventsnn.encode._vectors import turned
from eventsnn.jit import inner, lean_kernel

_SIDE = 16
_BYTES, _WORDS, _FLOATS = (
    ir.VectorType(kind, _SIDE) for kind in (ir.IntType(8), ir.IntType(32), ir.FloatType())
)  # fmt: skip


def _emit_turn(typing_context, source, stride, target, pitch):
    """Write 16 rows of 16 bytes, ``stride`` apart from an address on, as columns of float32, ``pitch`` bytes apart."""

    def generate(context, builder, signature, args):
        source, stride, target, pitch = args

        def row(number):
            place = builder.add(source, builder.mul(stride, stride.type(number)))
            return builder.load(builder.inttoptr(place, _BYTES.as_pointer()), align=1)

        for number, values in enumerate(turned(builder, [row(number) for number in range(_SIDE)])):
            place = builder.add(target, builder.mul(pitch, pitch.type(number)))
            values = builder.sitofp(builder.zext(values, _WORDS), _FLOATS)
            builder.store(values, builder.inttoptr(place, _FLOATS.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp, types.intp), generate


_turn: Any = intrinsic(_emit_turn)


def flat(images):
    """Return bytes (N, ...) as kernels take them, (N, pixels): not to be written, since those of some callers are not.

    What may be written is another type to Numba.
    """
    images = images.reshape(len(images), -1)
    images.flags.writeable = False
    return images


@lean_kernel
def turn(images, block):
    """Write uint8 of shape (N, pixels) to float32 of shape (pixels, N)."""
    n_images, pixels = images.shape
    source, target = np.int64(images.ctypes.data), np.int64(block.ctypes.data)
    for p in range(0, pixels, _SIDE):
        for i in range(0, n_images, _SIDE):
            if p + _SIDE <= pixels and i + _SIDE <= n_images:
                _turn(source + i * pixels + p, pixels, target + 4 * (p * n_images + i), 4 * n_images)
                continue
            for q in range(p, p + _SIDE if p + _SIDE < pixels else pixels):
                for j in range(i, i + _SIDE if i + _SIDE < n_images else n_images):
                    block[q, j] = np.float32(images[j, q])


@inner
def turn_16(images, block):
    """Write up to 16 images, uint8 of shape (N, pixels), to float32 of shape (pixels, 16); 0 where there is none."""
    n_images, pixels = images.shape
    source, target = np.int64(images.ctypes.data), np.int64(block.ctypes.data)
    for p in range(0, pixels, _SIDE):
        if p + _SIDE <= pixels and n_images == _SIDE:
            _turn(source + p, pixels, target + 4 * p * _SIDE, 4 * _SIDE)
            continue
        for q in range(p, p + _SIDE if p + _SIDE < pixels else pixels):
            for j in range(_SIDE):
                block[q, j] = np.float32(images[j, q]) if j < n_images else np.float32(0)
