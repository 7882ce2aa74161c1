"""From Numba's instructions to LLVM's with few of them, since the time of all that follows grows with their number.

Numba's own way asks for the type of each operator again, formats each instruction for a log that nobody reads, and
takes some 30 instructions for an element of an array and 100 for a loop. What is not treated here goes that way.
"""

from __future__ import annotations

import functools
import re
from typing import Any

from llvmlite import ir as llvm
from numba.core import interpreter, ir, lowering, typed_passes
from numba.core import types as numba_types
from numba.core.compiler_machinery import FunctionPass, register_pass
from numba.core.ir_utils import build_definitions
from numba.core.rewrites import rewrite_registry
from numba.core.transforms import canonicalize_cfg

from eventsnn.building import Builder, remove_unread
from eventsnn.calling import call_type
from eventsnn.unboxing import Wrapper
from eventsnn.variables import constant, split

types: Any = numba_types
_I64 = llvm.IntType(64)


class _Lower(lowering.Lower):
    """What functions without counted references become."""

    def setup_function(self, fndesc: Any) -> None:
        """Begin a function."""
        super().setup_function(fndesc)
        self.builder = Builder(self.entry_block)
        self.call_helper = self.call_conv.init_call_helper(self.builder)

    def lower_normal_function(self, fndesc: Any) -> None:
        """Lower a function."""
        super().lower_normal_function(fndesc)
        remove_unread(self.function)

    def _find_singly_assigned_variable(self) -> None:
        self._singly_assigned_vars = constant(self.blocks)
        self._blk_local_varmap: dict[str, Any] = {}

    def create_cpython_wrapper(self, release_gil: bool = False) -> None:
        """Make the function that Python calls; only what it calls is worth optimizing."""
        context, description = self.context, self.fndesc
        module = context.create_module("wrapper")
        kind = context.call_conv.get_function_type(description.restype, description.argtypes)
        inner = llvm.Function(module, kind, description.llvm_func_name)
        made = Wrapper(context, module, inner, description, self.env, self.call_helper, release_gil)
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

    def _called(self, op: Any, arguments: tuple[Any, ...]) -> Any:
        """Return the code of an operator for arguments of these types."""
        function = self.context.typing_context.resolve_value_type(op)
        return self.context.get_function(function, call_type(function, self.context._plain.typing_context, arguments))

    def lower_binop(self, kind: Any, expression: Any, op: Any) -> Any:
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

    def lower_getitem(self, kind: Any, expression: Any, value: Any, index: Any, signature: Any) -> Any:
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

    def _element(self, array: Any, value: Any, index: Any, wanted: Any) -> Any:
        """Return the address of an element of a contiguous array; None for all else, and where bounds are checked."""
        wanted = tuple(wanted) if isinstance(wanted, types.BaseTuple) else (wanted,)
        plain = isinstance(array, types.Array) and array.layout == "C" and array.aligned and array.ndim == len(wanted)
        if (
            self.context.enable_boundscheck
            or not plain
            or not all(isinstance(kind, types.Integer) and kind.bitwidth == 64 for kind in wanted)
        ):
            return None
        at, kind = self.loadvar(index.name), self.typeof(index.name)
        parts = [(at, kind)]
        if isinstance(kind, types.BaseTuple):
            parts = [(self.builder.extract_value(at, i), part) for i, part in enumerate(kind)]
        pairs = zip(parts, wanted, strict=True)
        places = [(self.context.cast(self.builder, part, had, want), want.signed) for (part, had), want in pairs]
        return self._address(self.context.data_model_manager[array], self.loadvar(value.name), places)

    def _address(self, model: Any, array: Any, places: list[tuple[Any, bool]]) -> Any:
        """Return the address of the element at an index for each axis; signed ones below 0 count from the end."""
        builder, whole = self.builder, None
        data, shape = (model.get_field_position(name) for name in ("data", "shape"))
        for axis, (place, signed) in enumerate(places):
            size = functools.partial(builder.extract_value, array, (shape, axis))
            if signed and not isinstance(place, llvm.Constant):
                place = builder.select(builder.icmp_signed("<", place, _I64(0)), builder.add(place, size()), place)
            elif signed and place.constant < 0:
                place = builder.add(place, size())
            whole = place if whole is None else builder.add(builder.mul(whole, size()), place)
        return builder.gep(builder.extract_value(array, data), [whole])

    def lower_expr(self, kind: Any, expression: Any) -> Any:
        """Lower an expression."""
        op = expression.op
        if op == "call" and not (expression.kws or expression.vararg):
            return self._call(kind, expression)
        if op == "static_getitem" and expression.index_var is not None and self._is_array(expression.value):
            signature = self.fndesc.calltypes[expression]
            return self.lower_getitem(kind, expression, expression.value, expression.index_var, signature)
        if op == "getiter" and self._counts_by_one(expression.value):
            return self._begin(kind, self.loadvar(expression.value.name))
        if op == "iternext" and isinstance(self.typeof(expression.value.name), types.RangeIteratorType):
            return self._next(kind, self.loadvar(expression.value.name))
        if op in ("pair_first", "pair_second"):
            return self.builder.extract_value(self.loadvar(expression.value.name), int(op == "pair_second"))
        return super().lower_expr(kind, expression)

    def _is_array(self, value: Any) -> bool:
        return isinstance(self.typeof(value.name), types.Array)

    def _call(self, kind: Any, expression: Any) -> Any:
        """Lower a call; the length of an array and ranges without a function."""
        function = getattr(self.typeof(expression.func.name), "typing_key", None)
        if function is len and self._is_array(expression.args[0]):
            shape = self.context.data_model_manager[self.typeof(expression.args[0].name)].get_field_position("shape")
            return self.builder.extract_value(self.loadvar(expression.args[0].name), (shape, 0))
        if function is range:
            values = [self._cast_var(each, kind.dtype) for each in expression.args]
            zero, one = (self.context.get_constant(kind.dtype, number) for number in (0, 1))
            start = [] if len(values) > 1 else [zero]
            return self._structure(self.context.get_value_type(kind), [*start, *values, one][:3])
        return super().lower_expr(kind, expression)

    def _counts_by_one(self, value: Any) -> bool:
        """Tell whether a value is a range without a step."""
        if not isinstance(self.typeof(value.name), types.RangeType):
            return False
        made = self.func_ir._definitions.get(value.name, ())
        return len(made) == 1 and isinstance(made[0], ir.Expr) and made[0].op == "call" and len(made[0].args) < 3

    def _begin(self, kind: Any, value: Any) -> Any:
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

    def _next(self, kind: Any, iterator: Any) -> Any:
        """Return the next number of a range, and whether there is one."""
        builder = self.builder
        at, step, left = (builder.extract_value(iterator, i) for i in (0, 2, 3))
        value, count = builder.load(at), builder.load(left)
        builder.store(builder.sub(count, count.type(1), flags=["nsw"]), left)
        builder.store(builder.add(value, step), at)
        more = builder.icmp_signed(">", count, count.type(0))
        return self._structure(self.context.get_value_type(kind), [value, more])


class _Interpreter(interpreter.Interpreter):
    """Numba's reader of bytecode, which looks five times for what kernels do not have."""

    def post_process(self, passes: Any, function: Any) -> Any:
        """Rewrite blocks of ``with`` and ``try``, lists, dictionaries and calls with stars, where there are any."""
        names = " ".join({instruction.opname for instruction in self.bytecode})
        return super().post_process(passes if _REWRITTEN.search(names) else [], function)


_REWRITTEN = re.compile("WITH|BLOCK|FINALLY|EXC|SPECIAL|LIST|MAP|DICT|CALL_FUNCTION_|CALL_KW|INTRINSIC")


@register_pass(mutates_CFG=True, analysis_only=False)
class Translate(FunctionPass):
    """Numba's way from bytecode to its instructions."""

    _name = "eventsnn_translate"

    def __init__(self) -> None:
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        """Translate a function."""
        state.func_ir = _Interpreter(state.func_id).interpret(state.bc)
        return True


@register_pass(mutates_CFG=False, analysis_only=False)
class Simplify(FunctionPass):
    """Numba's rewriting of constant indices, without looking lifetimes up after each, and variables that are split."""

    _name = "eventsnn_simplify"

    def __init__(self) -> None:
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        """Simplify a function."""
        state.func_ir.blocks = canonicalize_cfg(state.func_ir.blocks)
        for make in rewrite_registry.rewrites["before-inference"]:
            _rewrite(make(state), state)
        split(state.func_ir.blocks)
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


@register_pass(mutates_CFG=True, analysis_only=False)
class Lowering(typed_passes.NativeLowering):
    """The way down to LLVM."""

    _name = "eventsnn_lowering"

    @property
    def lowering_class(self) -> Any:
        """Who does it."""
        return _Lower

    def run_pass(self, state: Any) -> bool:
        """Lower a function."""
        for block in state.func_ir.blocks.values():
            for each in block.find_insts(ir.Assign):
                _check_precision(each, state)
        return super().run_pass(state)


def _check_precision(assignment: Any, state: Any) -> None:
    """Refuse a variable of two precisions, or of integers and floats: Numba, which splits more, would round elsewhere.

    What an expression leaves for the next is used where it meets, here and there.
    """
    if assignment.target.is_temp:
        return
    target, value = state.typemap[assignment.target.name], assignment.value
    if isinstance(value, ir.Var):
        given = state.typemap[value.name]
    else:
        given = getattr(state.calltypes.get(value), "return_type", None)
    if isinstance(target, types.Float) and isinstance(given, types.Float | types.Integer) and given != target:
        name = assignment.target.unversioned_name
        raise TypeError(f"{state.func_id.func_qualname}: {name} expects one type of number, got {given} and {target}")
