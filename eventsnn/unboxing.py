"""The function that Python calls: it takes arguments out of Python's objects and calls the compiled function.

Numba puts tuples of arrays together for that, value by value, and takes them apart again: that was more machine code
than the kernels themselves. Here each argument goes on as it is found. An array is its address and shape.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llvmlite import ir as llvm
from numba.core import cgutils
from numba.core import types as numba_types
from numba.core.callwrapper import PyCallWrapper

from eventsnn.calling import Calls

types: Any = numba_types
_I32, _I64 = llvm.IntType(32), llvm.IntType(64)


class _Flat(Calls):
    """Calls with arguments that are flat already."""

    def _get_arg_packer(self, kinds: Any) -> _Flat:
        return self

    def as_arguments(self, builder: Any, values: Any) -> Any:
        """Return what a function is given for its arguments."""
        return values


class Wrapper(PyCallWrapper):
    """The function that Python calls, for a function that counts no references.

    Objects are of the types that the function was compiled for: Numba looks that up before each call.
    """

    def build_wrapper(self, api: Any, builder: Any, closure: Any, args: Any, kws: Any) -> None:
        """Write the function's body."""
        kinds, null = self.fndesc.argtypes, api.get_null_object()
        objects = [api.alloca_obj() for _ in kinds]
        parsed = api.unpack_tuple(args, self.fndesc.qualname, len(kinds), len(kinds), *objects)
        with cgutils.if_unlikely(builder, cgutils.is_null(builder, parsed)):
            builder.ret(null)
        environment = self.get_env(api, builder)
        self._slots: dict[Any, Any] = {}
        self._failed = _I32(0)
        values = [
            value
            for slot, kind in zip(objects, kinds, strict=True)
            for value in self._values(api, builder, builder.load(slot), kind)
        ]
        with cgutils.if_unlikely(builder, cgutils.is_not_null(builder, self._failed)):
            api.err_set_string("PyExc_TypeError", "expected an array, got an object of another type")
            builder.ret(null)
        state = api.save_thread() if self.release_gil else None
        status, value = _Flat(self.context).call_function(
            builder, self.func, self.fndesc.restype, kinds, values, attrs=("noinline",)
        )
        if self.release_gil:
            api.restore_thread(state)
        with builder.if_then(status.is_ok, likely=True):
            with builder.if_then(status.is_none):
                api.return_none()
            builder.ret(api.from_native_return(self._simplified_return_type(), value, environment))
        self.context.call_conv.raise_error(builder, api, status)
        builder.ret(null)

    def _values(self, api: Any, builder: Any, value: Any, kind: Any) -> list[Any]:
        """Return what the compiled function is given for an object."""
        if isinstance(kind, types.BaseTuple):
            items = [(api.tuple_getitem(value, i), part) for i, part in enumerate(kind)]
            return [each for item, part in items for each in self._values(api, builder, item, part)]
        if isinstance(kind, types.Array) and kind.layout == "C":
            return self._array(api, builder, value, kind)
        if isinstance(kind, types.Omitted):
            return []
        native = api.to_native_value(kind, value)
        with cgutils.if_unlikely(builder, native.is_error):
            builder.ret(api.get_null_object())
        return list(_flatten(self.context.data_model_manager[kind].as_argument(builder, native.value)))

    def _array(self, api: Any, builder: Any, value: Any, kind: Any) -> list[Any]:
        """Return address and shape of an array, and note whether it is none."""
        model = self.context.data_model_manager[kind]
        if kind not in self._slots:
            self._slots[kind] = cgutils.alloca_once(builder, model.get_value_type())
        slot = self._slots[kind]
        error = api.numba_array_adaptor(value, builder.bitcast(slot, api.voidptr))
        self._failed = builder.or_(self._failed, error)
        data, shape = (_I32(model.get_field_position(name)) for name in ("data", "shape"))
        places = [(data,), *((shape, _I32(axis)) for axis in range(kind.ndim))]
        return [builder.load(builder.gep(slot, [_I32(0), *place], inbounds=True)) for place in places]


def _flatten(parts: Any) -> Iterator[Any]:
    if not isinstance(parts, tuple | list):
        yield parts
        return
    for part in parts:
        yield from _flatten(part)
