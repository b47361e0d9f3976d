import numpy as np
from numba import njit

from shm.bundle import pack


@njit
def add_to_all(bundle, amount):
    first, (second, third) = bundle.args
    first[0] += amount
    second[0] += amount
    return third.sum()


def test_kernels_change_the_packed_arrays_themselves():
    first, second = np.zeros(1, np.int64), np.zeros(1, np.int64)
    third = np.arange(4)
    third.flags.writeable = False
    bundle = pack((first, (second, third)))
    assert add_to_all(bundle, 5) == 6
    assert add_to_all(bundle, 2) == 6
    assert (first[0], second[0]) == (7, 7)


def test_a_bundle_keeps_its_arrays_alive():
    bundle = pack((np.full(1, 3), (np.zeros(1, np.int64), np.arange(1000))))
    for _ in range(20):
        np.full(100_000, 9)
    assert add_to_all(bundle, 1) == 499_500
