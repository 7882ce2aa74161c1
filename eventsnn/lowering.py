"""From Numba's instructions to LLVM's with as few of them as loops over arrays need, since all that follows grows with them.

Numba's own way asks for the type of every operator again, formats each instruction for a log that nobody reads, and takes
some 30 instructions of LLVM for one element of an array and 100 for a loop. What is not treated here goes that way.
"""

from __future__ import annotations

import copy
import functools
import operator
from typing import Any

from llvmlite import ir as llvm
from numba.core import ir, lowering, ssa, typed_passes, types
from numba.core.callconv import CPUCallConv
from numba.core.callwrapper import PyCallWrapper
from numba.core.compiler_machinery import FunctionPass, register_pass
from numba.core.cpu import CPUContext
from numba.core.datamodel import default_manager, models
from numba.core.ir_utils import build_definitions
from numba.core.postproc import PostProcessor
from numba.core.rewrites import rewrite_registry
from numba.np.numpy_support import as_dtype

_I64 = llvm.IntType(64)
TAG = "eventsnnArguments"  #: in the names of functions that are compiled here


@functools.lru_cache(maxsize=4096)
def call_type(function: types.Function, context: Any, arguments: tuple[types.Type, ...]) -> Any:
    """Return the signature with which one of Numba's functions is called."""
    return function.get_call_type(context, arguments, {})


class Typing:
    """Numba's context of types, which looks each call of Numba's own functions up once in a process."""

    def __init__(self, context: Any) -> None:
        self._context = context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def resolve_function_type(self, function: Any, arguments: Any, keywords: Any) -> Any:
        """Return the signature of a call."""
        if type(function) is types.Function and not keywords:
            return call_type(function, self._context, tuple(arguments))
        return self._context.resolve_function_type(function, arguments, keywords)


class _Lower(lowering.Lower):  # type: ignore[misc]
    """What functions without counted references become."""

    def create_cpython_wrapper(self, release_gil: bool = False) -> None:
        """Make the function that Python calls; only what it calls is worth optimizing."""
        context, description = self.context, self.fndesc
        module = context.create_module("wrapper")
        kind = context.call_conv.get_function_type(description.restype, description.argtypes)
        inner = llvm.Function(module, kind, description.llvm_func_name)
        made = PyCallWrapper(context, module, inner, description, self.env, self.call_helper, release_gil)
        wrapper, _ = made.build()
        wrapper.attributes.add("noinline")
        wrapper.attributes.add("optnone")
        self.library.add_ir_module(module)

    def lower_block(self, block: ir.Block) -> None:
        """Lower the instructions of a block."""
        self.pre_block(block)
        for instruction in block.body:
            self.loc = instruction.loc
            self.lower_inst(instruction)
        self.post_block(block)

    def lower_inst(self, instruction: Any) -> None:
        """Lower one instruction."""
        if isinstance(instruction, ir.Assign) and not isinstance(instruction.value, ir.Arg):
            name = instruction.target.name
            self.storevar(self.lower_assign(self.typeof(name), instruction), name)
        elif isinstance(instruction, ir.SetItem | ir.StaticSetItem):
            static = isinstance(instruction, ir.StaticSetItem)
            index = instruction.index_var if static else instruction.index
            self.lower_setitem(instruction.target, index, instruction.value, self.fndesc.calltypes[instruction])
        elif isinstance(instruction, ir.Jump):
            self.builder.branch(self.blkmap[instruction.target])
        else:
            super().lower_inst(instruction)

    def storevar(self, value: Any, name: str, argidx: int | None = None) -> None:
        """Store a value in a variable."""
        if name in self._singly_assigned_vars:
            self._blk_local_varmap[name] = value
        else:
            self._alloca_var(name, self.typeof(name))
            self.builder.store(value, self.getvar(name))

    def _called(self, op: Any, arguments: tuple[types.Type, ...]) -> Any:
        """Return the code of an operator for arguments of these types."""
        function = self.context.typing_context.resolve_value_type(op)
        return self.context.get_function(function, call_type(function, self.context._plain.typing_context, arguments))

    def lower_binop(self, kind: types.Type, expression: Any, op: Any) -> Any:
        """Lower an operator of two values."""
        if expression.static_lhs is not ir.UNDEFINED or expression.static_rhs is not ir.UNDEFINED:
            return super().lower_binop(kind, expression, op)
        signature = self.fndesc.calltypes[expression]
        values = [
            self.context.cast(self.builder, self.loadvar(side.name), self.typeof(side.name), wanted)
            for side, wanted in zip((expression.lhs, expression.rhs), signature.args, strict=True)
        ]
        found = self._called(op, signature.args)(self.builder, values)
        return self.context.cast(self.builder, found, signature.return_type, kind)

    def lower_getitem(self, kind: types.Type, expression: Any, value: Any, index: Any, signature: Any) -> Any:
        """Lower the reading of an element."""
        array = self.typeof(value.name)
        at = self._element(array, value, index, signature.args[1])
        if at is None:
            return super().lower_getitem(kind, expression, value, index, signature)
        found = self.context.unpack_value(self.builder, array.dtype, at)
        return self.context.cast(self.builder, found, signature.return_type, kind)

    def lower_setitem(self, target: Any, index: Any, value: Any, signature: Any) -> Any:
        """Lower the writing of an element."""
        array = self.typeof(target.name)
        at = self._element(array, target, index, signature.args[1])
        if at is None:
            return super().lower_setitem(target, index, value, signature)
        new = self.context.cast(self.builder, self.loadvar(value.name), self.typeof(value.name), array.dtype)
        return self.context.pack_value(self.builder, array.dtype, new, at)

    def _element(self, array: types.Type, value: Any, index: Any, wanted: types.Type) -> Any:
        """Return the address of an element of a contiguous array; None for what is not an element of one."""
        wanted = tuple(wanted) if isinstance(wanted, types.BaseTuple) else (wanted,)
        plain = isinstance(array, types.Array) and array.layout == "C" and array.aligned and array.ndim == len(wanted)
        if not plain or not all(isinstance(kind, types.Integer) and kind.bitwidth == 64 for kind in wanted):
            return None
        builder, model = self.builder, self.context.data_model_manager[array]
        data, shape = (model.get_field_position(name) for name in ("data", "shape"))
        whole, at = self.loadvar(value.name), self.loadvar(index.name)
        kind = self.typeof(index.name)
        parts = [(at, kind)]
        if isinstance(kind, types.BaseTuple):
            parts = [(builder.extract_value(at, i), part) for i, part in enumerate(kind)]
        place = None
        for axis, ((part, had), want) in enumerate(zip(parts, wanted, strict=True)):
            part = self.context.cast(builder, part, had, want)
            size = functools.partial(builder.extract_value, whole, (shape, axis))
            if want.signed and not isinstance(part, llvm.Constant):
                part = builder.select(builder.icmp_signed("<", part, _I64(0)), builder.add(part, size()), part)
            elif want.signed and part.constant < 0:
                part = builder.add(part, size())
            place = part if place is None else builder.add(builder.mul(place, size()), part)
        return builder.gep(builder.extract_value(whole, data), [place])

    def lower_expr(self, kind: types.Type, expression: Any) -> Any:
        """Lower an expression."""
        array = isinstance(expression.op == "static_getitem" and self.typeof(expression.value.name), types.Array)
        if array and expression.index_var is not None:
            given = expression.value, expression.index_var, self.fndesc.calltypes[expression]
            return self.lower_getitem(kind, expression, *given)
        if expression.op == "getiter" and self._counts_by_one(expression.value):
            return self._begin(kind, self.loadvar(expression.value.name))
        if expression.op == "iternext" and isinstance(self.typeof(expression.value.name), types.RangeIteratorType):
            return self._next(kind, self.loadvar(expression.value.name))
        if expression.op in ("pair_first", "pair_second"):
            return self.builder.extract_value(self.loadvar(expression.value.name), int(expression.op == "pair_second"))
        return super().lower_expr(kind, expression)

    def _counts_by_one(self, value: Any) -> bool:
        """Tell whether a value is a range without a step."""
        if not isinstance(self.typeof(value.name), types.RangeType):
            return False
        made = self.func_ir._definitions.get(value.name, ())
        return len(made) == 1 and isinstance(made[0], ir.Expr) and made[0].op == "call" and len(made[0].args) < 3

    def _begin(self, kind: types.Type, value: Any) -> Any:
        """Return an iterator (where the next number and how many are left are kept, end, step) over a range."""
        builder = self.builder
        start, stop, step = (builder.extract_value(value, i) for i in range(3))
        zero, left = start.type(0), builder.sub(stop, start)
        left = builder.select(builder.icmp_signed(">", left, zero), left, zero)
        parts = [self._kept(start), stop, step, self._kept(left)]
        return self._structure(self.context.get_value_type(kind), parts)

    def _kept(self, value: Any) -> Any:
        slot = self.alloca_lltype("$kept", value.type)
        self.builder.store(value, slot)
        return slot

    def _structure(self, kind: Any, parts: list[Any]) -> Any:
        whole = llvm.Constant(kind, llvm.Undefined)
        for i, part in enumerate(parts):
            whole = self.builder.insert_value(whole, part, i)
        return whole

    def _next(self, kind: types.Type, iterator: Any) -> Any:
        """Return the next number of a range, and whether there is one."""
        builder = self.builder
        at, step, left = (builder.extract_value(iterator, i) for i in (0, 2, 3))
        value, count = builder.load(at), builder.load(left)
        builder.store(builder.sub(count, count.type(1), flags=["nsw"]), left)
        builder.store(builder.add(value, step), at)
        more = builder.icmp_signed(">", count, count.type(0))
        return self._structure(self.context.get_value_type(kind), [value, more])


class _Array(models.ArrayModel):  # type: ignore[misc]
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
        place = self.get_field_position
        whole = llvm.Constant(self.get_value_type(), llvm.Undefined)
        for name in ("meminfo", "parent"):
            kind = self._models[place(name)].get_value_type()
            whole = builder.insert_value(whole, llvm.Constant(kind, None), place(name))
        size = _I64(as_dtype(self._fe_type.dtype).itemsize)
        whole = builder.insert_value(whole, size, place("itemsize"))
        whole = builder.insert_value(whole, data, place("data"))
        stride, count = size, _I64(1)
        for axis in reversed(range(len(shape))):
            whole = builder.insert_value(whole, shape[axis], (place("shape"), axis))
            whole = builder.insert_value(whole, stride, (place("strides"), axis))
            count = shape[axis] if axis == len(shape) - 1 else builder.mul(count, shape[axis])
            stride = builder.mul(stride, shape[axis]) if axis else stride
        return builder.insert_value(whole, count, place("nitems"))


def _array(manager: Any, kind: types.Array) -> Any:
    return (_Array if kind.layout == "C" else models.ArrayModel)(manager, kind)


_REPRESENTATIONS = default_manager.copy()
_REPRESENTATIONS.register(types.Array, _array)
_sizes: dict[Any, int] = {}


class Target(CPUContext):  # type: ignore[misc]
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
        return _Calls(self)

    def declare_function(self, module: Any, description: Any) -> Any:
        """Declare a function in a module."""
        own = TAG in description.mangled_name
        return CPUContext.declare_function(self if own else self._plain, module, description)

    def compile_subroutine(self, *args: Any, **options: Any) -> Any:
        """Compile a function of Numba's, in its way."""
        return self._plain.compile_subroutine(*args, **options)

    def get_abi_sizeof(self, kind: Any) -> int:
        """Return the size of a type, for which Numba has a module parsed each time."""
        if kind not in _sizes:
            _sizes[kind] = super().get_abi_sizeof(kind)
        return _sizes[kind]


class _Calls(CPUCallConv):  # type: ignore[misc]
    """Calls of our functions, and of Numba's in its way."""

    def call_function(self, builder: Any, callee: Any, *args: Any, **options: Any) -> Any:
        """Call a function."""
        if TAG in callee.name:
            return super().call_function(builder, callee, *args, **options)
        return self.context._plain.call_conv.call_function(builder, callee, *args, **options)


@register_pass(mutates_CFG=False, analysis_only=False)
class Simplify(FunctionPass):  # type: ignore[misc]
    """Numba's rewriting of constant indices, and single assignment, without looking lifetimes up after each."""

    _name = "eventsnn_simplify"

    def __init__(self) -> None:
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        """Simplify a function."""
        PostProcessor(state.func_ir).run()
        for make in rewrite_registry.rewrites["before-inference"]:
            _rewrite(make(state), state)
        state.func_ir = ssa.reconstruct_ssa(state.func_ir)
        state.func_ir._definitions = build_definitions(state.func_ir.blocks)
        return True


def _rewrite(rewrite: Any, state: Any) -> None:
    blocks = state.func_ir.blocks
    left = list(blocks)
    while left:
        key = left.pop()
        if rewrite.match(state.func_ir, blocks[key], state.typemap, state.calltypes):
            blocks[key] = rewrite.apply()
            left.append(key)


@register_pass(mutates_CFG=False, analysis_only=False)
class StripPhis(FunctionPass):  # type: ignore[misc]
    """Numba's way out of single assignment, without looking lifetimes up after it."""

    _name = "eventsnn_strip_phis"

    def __init__(self) -> None:
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        """Strip a function of its phi nodes."""
        state.func_ir = typed_passes.PreLowerStripPhis()._strip_phi_nodes(state.func_ir)
        state.func_ir._definitions = build_definitions(state.func_ir.blocks)
        return True


@register_pass(mutates_CFG=True, analysis_only=False)
class Lowering(typed_passes.NativeLowering):  # type: ignore[misc]
    """The way down to LLVM."""

    _name = "eventsnn_lowering"

    @property
    def lowering_class(self) -> Any:
        """Who does it."""
        return _Lower
