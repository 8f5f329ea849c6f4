"""The one road to the compiler: ``compiled``, ``inlined`` and the loads that compiled code may use.

numba's own cache stamp covers only the file of the caller, so an edited function in another file
would go unseen. Here the cache folder's name is a hash of every source in this package, of the
versions and of the processor: what is found there was compiled from exactly this code.

With NUMBA_DISABLE_JIT=1 everything runs as plain Python: slow, and the reference that the
compiled code is held against.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar, cast

import llvmlite
import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

F = TypeVar("F", bound=Callable[..., object])

JIT_DISABLED = bool(vars(numba.config)["DISABLE_JIT"])


def _stamp() -> str:
    seen = hashlib.sha256()
    house = Path(__file__).parent.parent
    for source in [house / "limits.py", *sorted(house.glob("*/*.py"))]:
        text = source.read_bytes()
        # What is compiled takes constants of core and of limits into its machine code.
        if source.parent.name == "core" or source.name == "limits.py" or b"compiled" in text:
            seen.update(text)
    versions = (platform.python_version(), numba.__version__, llvmlite.__version__, np.__version__)
    seen.update(repr((versions, llvmlite.binding.get_host_cpu_name())).encode())
    return seen.hexdigest()[:16]


def _cache_folder() -> str:
    """A folder for exactly this code, in NUMBA_CACHE_DIR or in the user's cache."""
    base = os.environ.get("NUMBA_CACHE_DIR")
    if not base:
        cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        base = os.path.join(cache, "eir")
    return os.path.join(base, f"kernel-{STAMP}")


STAMP: Final = _stamp()
"""Names exactly this code of core, what compiles it, and the processor."""

CACHE_FOLDER: Final = _cache_folder()
vars(numba.config)["CACHE_DIR"] = CACHE_FOLDER

_njit = cast(Callable[..., Callable[[F], F]], numba.njit)
compiled = _njit(nogil=True, cache=True, _nrt=False)
"""Compile without the interpreter lock; remember the machine code on disk.

What is compiled allocates no arrays (the compiler refuses it), so it needs no numba runtime: with
it, every call between functions counts references to its arrays by locked instructions.
"""
inlined = _njit(nogil=True, cache=True, _nrt=False, forceinline=True)
"""The same, for what is called for each query: its machine code stands in its callers'.

Left to itself the compiler inlines little, and a call passes an array as seven words.
"""


def _load(bits: int, result: types.Type) -> Callable[[int], np.uint64]:
    @intrinsic
    def load(typing_context, address):
        def emit(context, builder, signature, arguments):
            pointer = builder.inttoptr(arguments[0], ir.IntType(bits).as_pointer())
            value = builder.load(pointer)
            value.align = 1
            return builder.zext(value, ir.IntType(64)) if bits < 64 else value

        return result(types.intp), emit

    return cast(Callable[[int], np.uint64], load)


@intrinsic
def _popcount(typing_context, word):
    def emit(context, builder, signature, arguments):
        return builder.ctpop(arguments[0])

    return types.int64(types.uint64), emit


@intrinsic
def _trailing_zeros(typing_context, word):
    def emit(context, builder, signature, arguments):
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), emit


@intrinsic
def _either(typing_context, condition, yes, no):
    def emit(context, builder, signature, arguments):
        chosen = builder.select(*arguments)
        chosen.set_metadata("unpredictable", builder.module.add_metadata([]))
        return chosen

    return types.int64(types.boolean, types.int64, types.int64), emit


@intrinsic
def _prefetch(typing_context, address):
    def emit(context, builder, signature, arguments):
        word, pointer = ir.IntType(32), ir.IntType(8).as_pointer()
        hint = builder.module.declare_intrinsic(
            "llvm.prefetch", [pointer], ir.FunctionType(ir.VoidType(), [pointer, word, word, word])
        )
        place = builder.inttoptr(arguments[0], pointer)
        builder.call(hint, [place, word(0), word(3), word(1)])
        return context.get_dummy_value()

    return types.void(types.intp), emit


def _plain_load(kind: type[ctypes._SimpleCData[int]], result: type) -> Callable[[int], np.uint64]:
    def load(address: int) -> np.uint64:
        return cast(np.uint64, result(kind.from_address(int(address)).value))

    return load


def _plain_popcount(word: np.uint64) -> int:
    return int(word).bit_count()


def _plain_trailing_zeros(word: np.uint64) -> int:
    return (int(word) & -int(word)).bit_length() - 1


def _plain_either(condition: bool, yes: np.int64, no: np.int64) -> np.int64:
    return yes if condition else no


def _plain_prefetch(address: int) -> None:
    """Nothing is faster for it without the compiler."""


# load8 … load64(address): little-endian, unaligned; int64, but load64 uint64. popcount(word): how
# many bits are set. trailing_zeros(word): the place of the lowest set bit of a word that is not 0.
# either(condition, yes, no): one of two int64, and never by a branch. The compiler makes one of any
# other choice by what was loaded, and where chance chooses, half of them are mispredicted.
# prefetch(address): have the line brought to the cache; any address may be given.
if JIT_DISABLED:
    load8 = _plain_load(ctypes.c_uint8, np.int64)
    load16 = _plain_load(ctypes.c_uint16, np.int64)
    load32 = _plain_load(ctypes.c_uint32, np.int64)
    load64 = _plain_load(ctypes.c_uint64, np.uint64)

    popcount: Callable[[np.uint64], int] = _plain_popcount
    trailing_zeros: Callable[[np.uint64], int] = _plain_trailing_zeros
    either: Callable[[bool, np.int64, np.int64], np.int64] = _plain_either
    prefetch: Callable[[int], None] = _plain_prefetch
else:
    load8 = _load(8, types.int64)
    load16 = _load(16, types.int64)
    load32 = _load(32, types.int64)
    load64 = _load(64, types.uint64)
    popcount = cast(Callable[[np.uint64], int], _popcount)
    trailing_zeros = cast(Callable[[np.uint64], int], _trailing_zeros)
    either = cast(Callable[[bool, np.int64, np.int64], np.int64], _either)
    prefetch = cast(Callable[[int], None], _prefetch)
