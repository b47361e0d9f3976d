"""Choose the kernel cache before anything imports numba."""

from common import kernel_cache

kernel_cache.configure()
