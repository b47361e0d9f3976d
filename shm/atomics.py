"""The only intrinsics of the project: ordered loads and stores, fences, and the pause instruction.

A plain load in a loop may be hoisted by LLVM and never see another process's store, so every word
that two processes share is read with `load_acquire` and written with `store_release`. Under
NUMBA_DISABLE_JIT=1 (debuggers) plain Python functions of the same names take their place: enough
for one process, no ordering between two.
"""

from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

from common import clock

_WORD_BYTES = 8


def _word_pointer(context, builder, array_type, array, index):
    if not isinstance(array_type, types.Array) or array_type.dtype != types.int64:
        raise TypingError(f"atomic access: array is {array_type}, expected int64[n]")
    data = make_array(array_type)(context, builder, array).data
    return builder.gep(data, [index])


@intrinsic
def load_acquire(typingctx, words, index):
    """Return words[index]; later reads and writes stay behind it.

    Args:
        words: int64[n], read.
        index: place in `words`, not checked.
    """

    def codegen(context, builder, signature, args):
        pointer = _word_pointer(context, builder, signature.args[0], args[0], args[1])
        return builder.load_atomic(pointer, "acquire", _WORD_BYTES)

    return types.int64(words, types.intp), codegen


@intrinsic
def store_release(typingctx, words, index, value):
    """Set words[index] = value; earlier reads and writes stay before it.

    Args:
        words: int64[n], changed.
        index: place in `words`, not checked.
    """

    def codegen(context, builder, signature, args):
        pointer = _word_pointer(context, builder, signature.args[0], args[0], args[1])
        builder.store_atomic(args[2], pointer, "release", _WORD_BYTES)
        return context.get_dummy_value()

    return types.void(words, types.intp, types.int64), codegen


def _fence(ordering):
    def codegen(context, builder, signature, args):
        builder.fence(ordering)
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def fence_acquire(typingctx):
    """Keep every earlier read before every later read and write."""
    return _fence("acquire")


@intrinsic
def fence_release(typingctx):
    """Keep every earlier read and write before every later write."""
    return _fence("release")


@intrinsic
def fence_seq_cst(typingctx):
    """Keep everything earlier before everything later, stores before loads included."""
    return _fence("seq_cst")


@intrinsic
def cpu_relax(typingctx):
    """Tell the core that this is a spin loop (x86 pause)."""

    def codegen(context, builder, signature, args):
        kind = ir.FunctionType(ir.VoidType(), [])
        pause = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause")
        builder.call(pause, [])
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def debug_trap(typingctx):
    """Raise SIGTRAP; brackets the code under test when a parent single-steps it."""

    def codegen(context, builder, signature, args):
        kind = ir.FunctionType(ir.VoidType(), [])
        trap = cgutils.get_or_insert_function(builder.module, kind, "llvm.debugtrap")
        builder.call(trap, [])
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def multiply_wrapping(typingctx, a, b):
    """Return the low 64 bits of a * b; for hashes only (numba's own product must not overflow)."""

    def codegen(context, builder, signature, args):
        return builder.mul(args[0], args[1])

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def prefetch(typingctx, words, index):
    """Ask for the cache line of words[index]; it reads and changes nothing, and never faults.

    Args:
        words: int64[n].
        index: place in `words`, not checked.
    """

    def codegen(context, builder, signature, args):
        pointer = _word_pointer(context, builder, signature.args[0], args[0], args[1])
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        # For reading, to be kept in all caches, data.
        hints = [ir.Constant(word, value) for value in (0, 3, 1)]
        builder.call(function, [builder.bitcast(pointer, byte), *hints])
        return context.get_dummy_value()

    return types.void(words, types.intp), codegen


@intrinsic
def read_cycles(typingctx):
    """Return the core's time stamp counter; for measurements, never for decisions."""

    def codegen(context, builder, signature, args):
        kind = ir.FunctionType(ir.IntType(64), [])
        counter = cgutils.get_or_insert_function(builder.module, kind, "llvm.readcyclecounter")
        return builder.call(counter, [])

    return types.int64(), codegen


if config.DISABLE_JIT:

    def load_acquire(words, index):  # noqa: F811
        """Return words[index]."""
        return int(words[index])

    def store_release(words, index, value):  # noqa: F811
        """Set words[index] = value."""
        words[index] = value

    def fence_acquire():  # noqa: F811
        """Do nothing."""

    fence_release = fence_seq_cst = cpu_relax = debug_trap = fence_acquire

    def prefetch(words, index):  # noqa: F811
        """Do nothing."""

    def multiply_wrapping(a, b):  # noqa: F811
        """Return the low 64 bits of a * b, signed."""
        return ((int(a) * int(b) + (1 << 63)) & ((1 << 64) - 1)) - (1 << 63)

    def read_cycles():  # noqa: F811
        """Return CLOCK_MONOTONIC in its place."""
        return clock.now_ns()
