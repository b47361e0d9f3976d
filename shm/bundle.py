"""Many arrays as one kernel argument.

Python pays 160 to 250 ns for each array that it hands to a kernel. A stage hands the same forty at
every call, so it packs them once: a bundle crosses the border as one pointer.

    bundle = pack((turn, ends, state))                 # once
    @njit(cache=True)
    def cycle(bundle, now_ns):                         # about 1.6 us instead of 17 us
        turn, ends, state = bundle.args
        ...
"""

from typing import Any

from numba import config, njit, types
from numba.experimental import structref


@structref.register
class BundleType(types.StructRef):
    """Type of a bundle: one field, the tuple of its arguments."""

    def preprocess_fields(self, fields: Any) -> Any:
        """Widen literal types, so that equal arrays make equal types."""
        return tuple((name, types.unliteral(kind)) for name, kind in fields)


class Bundle(structref.StructRefProxy):
    """A tuple of arrays and namedtuples of arrays, which it keeps alive; made by `pack`."""


structref.define_proxy(Bundle, BundleType, ["args"])


class _Uncompiled:
    """The bundle when numba is switched off."""

    def __init__(self, args: tuple) -> None:
        self.args = args


@njit(cache=True)
def _pack(args):
    return Bundle(args)


def pack(args: tuple) -> Any:
    """Pack a tuple of arrays and namedtuples of arrays; kernels read it as `bundle.args`."""
    return _Uncompiled(args) if config.DISABLE_JIT else _pack(args)
