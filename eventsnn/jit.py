"""How kernels are compiled: as little as their code needs, since a first command waits for it.

Numba turns each function into machine code of its own, by way of two rounds of optimization, even where only other
kernels call it. Here an inner function stays as LLVM writes it down, and is optimized once, in the entry point that
calls it. ``benchmarks/NOTES.md`` says what this and the rest is worth.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable
from typing import Any

from llvmlite import binding, ir
from numba import njit, types
from numba.core import compiler, config, typed_passes, untyped_passes
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler_machinery import PassManager
from numba.extending import intrinsic

from eventsnn.calling import TAG, Target
from eventsnn.lowering import Lowering, Simplify, StripPhis


class _Flags(compiler.Flags):
    """Options that do not change, equal to nothing else: Numba compares them for each operator of each function."""

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    def copy(self) -> _Flags:
        return self

    def get_mangle_string(self) -> str:
        """Return what the names of functions tell about the options."""
        return TAG + super().get_mangle_string()


_known: dict[compiler.Flags, _Flags] = {}


class _Library(JITCodeLibrary):
    """Code whose loops are not unrolled, which would make most of the code and of the work and mostly gains nothing."""

    _unrolls = False

    def _optimize_functions(self, module: Any) -> None:
        """Take variables out of memory and join blocks, so that little is linked: all else is done after that."""
        module.data_layout = self._codegen._data_layout
        builder, passes = self._builder(), binding.create_new_function_pass_manager()
        passes.add_sroa_pass()
        passes.add_simplify_cfg_pass()
        for function in module.functions:
            if not function.is_declaration:
                passes.run(function, builder)

    def _optimize_final_module(self) -> None:
        builder = self._builder()
        passes = builder.getModulePassManager()
        passes.add_refprune_pass()
        passes.run(self._final_module, builder)

    def _builder(self) -> Any:
        options = binding.create_pipeline_tuning_options(int(config.OPT))
        options.loop_vectorization, options.slp_vectorization = config.LOOP_VECTORIZE, config.SLP_VECTORIZE
        options.loop_unrolling = self._unrolls
        return binding.create_pass_builder(self._codegen._tm, options)


class _UnrollingLibrary(_Library):
    _unrolls = True


class _InnerLibrary(_Library):
    """Code for other libraries to link, without machine code."""

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        """Return that there is no such function in machine code."""
        return 0

    @property
    def codegen(self) -> Any:
        """Where Numba makes the function's environment known: nowhere, since there is no machine code."""
        return _NoEnvironment


class _NoEnvironment:
    @staticmethod
    def set_env(name: str, environment: Any) -> None:
        pass


class _Compiler(compiler.CompilerBase):  # type: ignore[misc]
    """Numba's compiler without the passes that nothing in a kernel needs."""

    _library: Any = _Library

    def __init__(self, typing: Any, target: Any, library: Any, args: Any, result: Any, flags: Any, *rest: Any) -> None:
        super().__init__(typing, target, library, args, result, _known.setdefault(flags, _Flags(flags)), *rest)
        if library is None and self._library is not None:
            self.state.library = self._library(self.state.targetctx.codegen(), "kernel")
            self.state.library.enable_object_caching()
        self.state.targetctx = Target.like(self.state.targetctx)
        self.state.typingctx = self.state.targetctx.typing_context

    def compile_extra(self, func: Any) -> Any:
        """Compile without the garbage collector, which would go through all that Numba makes again and again."""
        collects = gc.isenabled()
        gc.disable()
        try:
            return super().compile_extra(func)
        finally:
            if collects:
                # All that is new now counts as old: looking through it at once would take a second of a first command.
                gc.freeze()
                gc.unfreeze()
                gc.enable()

    def define_pipelines(self) -> list[PassManager]:
        """Return the one pipeline."""
        passes = PassManager("kernel")
        for step in _COUNTED if self.state.flags.nrt else _UNCOUNTED:
            passes.add_pass(step, step.__name__)
        passes.finalize()
        return [passes]


_COUNTED = (
    untyped_passes.TranslateByteCode,
    untyped_passes.FixupArgs,
    untyped_passes.IRProcessing,
    untyped_passes.InlineClosureLikes,
    untyped_passes.GenericRewrites,
    untyped_passes.ReconstructSSA,
    typed_passes.NopythonTypeInference,
    typed_passes.PreLowerStripPhis,
    typed_passes.IRLegalization,
    typed_passes.NativeLowering,
    typed_passes.NoPythonBackend,
)
_UNCOUNTED = (
    untyped_passes.TranslateByteCode,
    untyped_passes.FixupArgs,
    Simplify,
    typed_passes.NopythonTypeInference,
    StripPhis,
    Lowering,
    typed_passes.NoPythonBackend,
)


class _UnrollingCompiler(_Compiler):
    _library = _UnrollingLibrary


class _InnerCompiler(_Compiler):
    _library = _InnerLibrary


def kernel(function: Callable[..., Any], unroll: bool = False, **options: Any) -> Any:
    """Compile an entry point, called from Python; compiled code is kept on disk where there is a place for it.

    ``unroll`` is for those that have been measured to gain from unrolled loops more than these take to compile.
    """
    options["pipeline_class"] = _UnrollingCompiler if unroll else _Compiler
    try:
        return njit(cache=True, nogil=True, no_cfunc_wrapper=True, **options)(function)
    except RuntimeError as error:  # Numba's word for no such place
        if "no locator" not in str(error):
            raise
    warnings.warn(
        "no folder to keep compiled code in can be written, so it is compiled each time, which takes long; "
        "set NUMBA_CACHE_DIR to a folder that can be",
        RuntimeWarning,
        stacklevel=1,
    )
    return njit(nogil=True, no_cfunc_wrapper=True, **options)(function)


def lean_kernel(function: Callable[..., Any], **options: Any) -> Any:
    """Compile an entry point that makes no array, so that nobody needs to count references to arrays.

    Numba counts them wherever an array is taken out of a tuple, in the innermost loops too.
    """
    return kernel(function, _nrt=False, **options)


_INNER: dict[str, Any] = {
    "nogil": True,
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
    "pipeline_class": _InnerCompiler,
}
#: what entry points call: without wrappers for Python, which would take most of the time to compile
making_arrays = njit(**_INNER)
#: the same for functions that make no array
inner = njit(_nrt=False, **_INNER)


def _emit_trailing_zeros(typing_context, word):
    """Return how many zeros a word that is not 0 ends with."""
    return types.int64(types.uint32), lambda context, builder, signature, args: builder.zext(
        builder.cttz(args[0], ir.IntType(1)(True)), ir.IntType(64)
    )


#: for words of 32 bits
trailing_zeros: Any = intrinsic(_emit_trailing_zeros)
