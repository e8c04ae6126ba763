"""Plain values to bytes and back: numbers, text, bytes, None and containers of them.

It is pickle without its danger: the reader refuses everything that names a class or a function,
so bytes of any origin make plain values or an error.
"""

from __future__ import annotations

import io
import pickle
from typing import Any


def pack(value: Any) -> bytes:
    """Return the bytes of a plain value."""
    return pickle.dumps(value, protocol=5)


def unpack(packed: bytes) -> Any:
    """Return the value.

    Raises:
        ValueError: The bytes are not from `pack`.
    """
    try:
        return _Plain(io.BytesIO(packed)).load()
    except (pickle.UnpicklingError, EOFError, IndexError, KeyError, ValueError) as error:
        raise ValueError(f"not packed values: {error}") from None


class _Plain(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str) -> Any:
        """Refuse it."""
        raise ValueError(f"{module_name}.{global_name} is no plain value")

    def persistent_load(self, pid: Any) -> Any:
        """Refuse it."""
        raise ValueError("a reference is no plain value")
