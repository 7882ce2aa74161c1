"""How kernels call functions and what types these have, as Numba does it but for two things.

An array is handed over as its address and shape, from which all else follows, where Numba hands over seven values. And
each operator's type is looked up once in a process. Functions of Numba's own that kernels use are called its way.
"""

from __future__ import annotations

import copy
import functools
import operator
from typing import Any

from llvmlite import ir as llvm
from numba.core import types as numba_types
from numba.core.callconv import CPUCallConv
from numba.core.cpu import CPUContext
from numba.core.datamodel import DataModelManager, default_manager, models
from numba.core.imputils import user_function
from numba.np.numpy_support import as_dtype

TAG = "eventsnnArguments"  #: in the names of functions that are called our way
types: Any = numba_types
_I64 = llvm.IntType(64)


_types: dict[Any, Any] = {}
_implementations: dict[Any, Any] = {}


def call_type(function: Any, context: Any, arguments: tuple[Any, ...]) -> Any:
    """Return the signature with which one of Numba's functions is called, looked up once in a process."""
    return _remembered(("call", function, arguments), context.resolve_function_type, function, arguments, {})


def _remembered(key: tuple[Any, ...], find: Any, *arguments: Any) -> Any:
    """Return what is found, unless that is nothing yet."""
    found = _types.get(key)
    if found is None and (found := find(*arguments)) is not None:
        _types[key] = found
    return found


class Typing:
    """Numba's context of types, which looks each call of Numba's own functions up once in a process."""

    def __init__(self, context: Any) -> None:
        self._context = context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def resolve_function_type(self, function: Any, arguments: Any, keywords: Any) -> Any:
        """Return the signature of a call."""
        own = type(function) in _OWN or function is operator.getitem
        if own and not keywords:
            return call_type(function, self._context, tuple(arguments))
        return self._context.resolve_function_type(function, arguments, keywords)

    def resolve_setitem(self, target: Any, index: Any, value: Any) -> Any:
        """Return the signature with which an element is written."""
        return _remembered(("set", target, index, value), self._context.resolve_setitem, target, index, value)

    def resolve_getattr(self, kind: Any, name: str) -> Any:
        """Return the type of an attribute."""
        if not isinstance(kind, types.BaseTuple | types.Array):
            return self._context.resolve_getattr(kind, name)
        return _remembered(("get", kind, name), self._context.resolve_getattr, kind, name)


_OWN = types.Function, types.NumberClass, str


class _Array(models.ArrayModel):
    """Contiguous arrays, of which functions are given address and shape alone: all else follows from these.

    An array that was made by compiled code is owned by whoever made it.
    """

    def get_argument_type(self) -> Any:
        """Return of what types the arguments are that stand for an array."""
        return tuple(self._models[self.get_field_position(name)].get_argument_type() for name in ("data", "shape"))

    def as_argument(self, builder: Any, value: Any) -> Any:
        """Return the arguments that stand for an array."""
        data, shape = (self.get_field_position(name) for name in ("data", "shape"))
        axes = range(self._fe_type.ndim)
        return builder.extract_value(value, data), tuple(builder.extract_value(value, (shape, axis)) for axis in axes)

    def from_argument(self, builder: Any, value: Any) -> Any:
        """Return the array that arguments stand for."""
        data, shape = value
        place, size = self.get_field_position, as_dtype(self._fe_type.dtype).itemsize
        fields = [llvm.Constant(kind, llvm.Undefined) for kind in self.get_value_type().elements]
        for name in ("meminfo", "parent"):
            fields[place(name)] = llvm.Constant(fields[place(name)].type, None)
        fields[place("itemsize")] = _I64(size)
        fields[place("strides")] = llvm.Constant(fields[place("strides")].type, [_I64(size)] * len(shape))
        whole = builder.insert_value(llvm.Constant.literal_struct(fields), data, place("data"))
        stride, count = _I64(size), shape[-1] if shape else _I64(1)
        for axis in reversed(range(len(shape))):
            whole = builder.insert_value(whole, shape[axis], (place("shape"), axis))
            if axis < len(shape) - 1:
                stride = builder.mul(stride, shape[axis + 1])
                count = builder.mul(count, shape[axis])
                whole = builder.insert_value(whole, stride, (place("strides"), axis))
        return builder.insert_value(whole, count, place("nitems"))


def _array(manager: Any, kind: Any) -> Any:
    return (_Array if kind.layout == "C" else models.ArrayModel)(manager, kind)


#: arrays our way, and all types that Numba knows or comes to know
_REPRESENTATIONS = DataModelManager({types.Array: _array}).chain(default_manager)
_sizes: dict[Any, int] = {}


class Target(CPUContext):
    """Numba's context of code, with arguments of our own for functions whose names have the tag :data:`TAG`."""

    _plain: CPUContext

    @classmethod
    def like(cls, plain: CPUContext) -> Target:
        """Return the context that compiles as ``plain`` does."""
        self = copy.copy(plain)
        self.__class__ = cls
        self._plain, self.data_model_manager = plain, _REPRESENTATIONS
        self.typing_context = Typing(plain.typing_context)
        # Numba looks for new definitions whenever one is not found by its name; once for each function will do.
        self.refresh = functools.cache(self.refresh)
        return self

    @property
    def call_conv(self) -> CPUCallConv:
        """How functions are called."""
        return Calls(self)

    def get_function(self, function: Any, signature: Any, **first: Any) -> Any:
        """Return the code of one of Numba's functions, or of ours, as a function; what it is, is looked up once."""
        found = _implementations.get((function, signature))
        if found is None:
            found = _implementations[function, signature] = super().get_function(function, signature, **first)
        again = object.__new__(type(found))
        again.__dict__.update(found.__dict__, _context=self)
        return again

    def declare_function(self, module: Any, description: Any) -> Any:
        """Declare a function in a module."""
        own = TAG in description.mangled_name
        return CPUContext.declare_function(self if own else self._plain, module, description)

    def insert_user_function(self, function: Any, description: Any, libraries: Any = ()) -> None:
        """Make a compiled function known to all contexts, which call it our way."""
        made = user_function(description, libraries)

        @functools.wraps(made)
        def call(context: Any, *args: Any) -> Any:
            return made(context if isinstance(context, Target) else Target.like(context), *args)

        self._defns[function].append(call, made.signature)

    def compile_subroutine(self, *args: Any, **options: Any) -> Any:
        """Compile a function of Numba's, in its way."""
        return self._plain.compile_subroutine(*args, **options)

    def get_abi_sizeof(self, kind: Any) -> int:
        """Return the size of a type, for which Numba has a module parsed each time."""
        if kind not in _sizes:
            _sizes[kind] = super().get_abi_sizeof(kind)
        return _sizes[kind]


class Calls(CPUCallConv):
    """Calls of our functions, and of Numba's in its way."""

    def call_function(self, builder: Any, callee: Any, *args: Any, **options: Any) -> Any:
        """Call a function."""
        if TAG in callee.name:
            return super().call_function(builder, callee, *args, **options)
        return self.context._plain.call_conv.call_function(builder, callee, *args, **options)
