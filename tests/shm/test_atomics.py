"""The intrinsics compile to the instructions that the memory model of the rings needs."""

import re

import numpy as np
import pytest
from numba import config, njit

from shm.atomics import (
    cpu_relax,
    debug_trap,
    fence_acquire,
    fence_release,
    fence_seq_cst,
    load_acquire,
    multiply_wrapping,
    read_cycles,
    store_release,
)
from shm.ring import MARKET, anonymous_ring, publish, try_claim

compiled_only = pytest.mark.skipif(config.DISABLE_JIT, reason="nothing is compiled")


@njit(_nrt=False)
def load_twice(words):
    return load_acquire(words, 3) + load_acquire(words, 3)


@njit(_nrt=False)
def store_between(words, value):
    words[0] = value
    store_release(words, 1, value)
    words[0] = value + 1


@njit(_nrt=False)
def fence_only(words):
    words[0] = 1
    fence_acquire()
    words[0] = 2
    fence_release()
    words[0] = 3


@njit(_nrt=False)
def full_fence(words):
    words[0] = 1
    fence_seq_cst()
    return words[7]


@njit(_nrt=False)
def spin(words):
    while load_acquire(words, 0) == 0:
        pass


@njit(_nrt=False)
def push(out, value):
    first = try_claim(out, 1)
    if first >= 0:
        for word in range(8):
            out.slots[first & (len(out.slots) - 1), word] = value
        publish(out)


def body(kernel, *arguments):
    """Return the instructions of the kernel itself, without numba's Python wrapper."""
    kernel(*arguments)
    text = kernel.inspect_asm(kernel.signatures[0])
    function = text.split(".Lfunc_end0:")[0]
    lines = [line.split("#")[0].strip() for line in function.splitlines()]
    return [line for line in lines if line and not line.startswith(".") or line.endswith(":")]


@compiled_only
def test_acquire_is_a_plain_load_that_is_not_merged():
    lines = body(load_twice, np.zeros(8, np.int64))
    assert len([line for line in lines if re.match(r"(movq|addq)\s+24\(", line)]) == 2
    assert not [line for line in lines if line.startswith(("lock", "mfence"))]


@compiled_only
def test_release_is_a_plain_store_that_keeps_earlier_stores():
    lines = body(store_between, np.zeros(8, np.int64), 5)
    written = [line for line in lines if re.match(r"movq\s+%\w+, \d*\(%\w+\)", line)]
    offsets = [re.search(r", (\d*)\(", line).group(1) for line in written]
    first = offsets.index("8")
    assert "" in offsets[:first] and "" in offsets[first:]  # both stores of words[0] are there
    assert not [line for line in lines if line.startswith(("lock", "xchg"))]


@compiled_only
def test_light_fences_order_the_compiler_and_cost_nothing():
    lines = body(fence_only, np.zeros(8, np.int64))
    assert len([line for line in lines if re.match(r"movq\s+\$[123], \(", line)]) == 3
    assert not [line for line in lines if line.startswith(("lock", "mfence"))]


@compiled_only
def test_full_fence_is_a_locked_instruction_between_store_and_load():
    lines = body(full_fence, np.zeros(8, np.int64))
    store = next(i for i, line in enumerate(lines) if re.match(r"movq\s+\$1, \(", line))
    fence = next(i for i, line in enumerate(lines) if line.startswith(("lock", "mfence")))
    load = next(i for i, line in enumerate(lines) if re.match(r"movq\s+56\(", line))
    assert store < fence < load


@compiled_only
def test_spin_loop_loads_every_time():
    lines = body(spin, np.ones(8, np.int64))
    jump = next(i for i, line in enumerate(lines) if re.match(r"j\w+\s+\.L", line))
    label = lines.index(re.search(r"\.L\w+", lines[jump]).group(0) + ":")
    assert label < jump
    assert [line for line in lines[label:jump] if "(%" in line], "no load inside the loop"


@compiled_only
@pytest.mark.parametrize(
    ("intrinsic", "instruction"),
    [(cpu_relax, "pause"), (debug_trap, "int3"), (read_cycles, "rdtsc")],
)
def test_special_instructions(intrinsic, instruction):
    @njit(_nrt=False)
    def kernel():
        intrinsic()

    kernel.compile(())
    assert instruction in kernel.inspect_asm(())


@compiled_only
def test_push_needs_no_lock_no_call_and_no_reference_count_unless_a_bell_rings():
    lines = body(push, anonymous_ring(MARKET, 8)[0].end, 5)
    locked = [i for i, line in enumerate(lines) if line.startswith("lock")]
    assert len(locked) == 1  # the fence in front of the look at the sleeping word
    calls = [line for line in lines if line.startswith("call")]
    assert len(calls) == 1  # write(2) of the bell
    assert not [line for line in lines if "NRT" in line]


@compiled_only
def test_wrong_arrays_do_not_compile():
    from numba.core.errors import TypingError

    with pytest.raises(TypingError, match=r"expected int64\[n\]"):
        load_twice(np.zeros(8, np.float64))


@njit(_nrt=False)
def multiply(a, b):
    return multiply_wrapping(a, b)


def test_multiply_wraps_as_in_c():
    for a, b in ((3, -5), (1 << 40, 1 << 40), (-7046029254386353131, 1469598103934665603)):
        expected = a * b & (1 << 64) - 1
        assert multiply(a, b) == (expected ^ 1 << 63) - (1 << 63)
