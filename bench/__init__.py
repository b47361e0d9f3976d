"""Numbers: one file per question, rivals in peers/, and the harness that runs them fairly."""

from common import kernel_cache

kernel_cache.configure()  # before anything imports numba
