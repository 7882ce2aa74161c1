"""Numba's compiler with what the code of kernels needs, and no more.

Numba turns each function into machine code of its own, by way of two rounds of optimization, even where only other
kernels call it. Here an inner function stays as LLVM writes it down, and is optimized once, in the entry point that
calls it. ``benchmarks/NOTES.md`` says what this and the rest is worth. All of it leans on what Numba keeps to itself,
so ``jit.py`` says with which versions it is used.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable
from typing import Any

from llvmlite import binding
from numba.core import cgutils, compiler, config, typed_passes, untyped_passes
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler_machinery import PassManager

from eventsnn.calling import TAG, Target
from eventsnn.lowering import Lowering, Simplify, Translate


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

    def add_ir_module(self, ir_module: Any) -> None:
        """Add a function, to be verified together with all that it is linked with."""
        self._final_module.link_in(binding.parse_assembly(cgutils.normalize_ir_text(str(ir_module))))

    def finalize(self) -> None:
        """Link all that is called, directly or not, once, and make machine code of it."""
        self._link_to(self._final_module)
        self._final_module.verify()
        self._optimize_final_module()
        self._finalize_final_module()

    def _link_to(self, module: Any) -> None:
        for library in self._called():
            inner = isinstance(library, _InnerLibrary)
            module.link_in(library._final_module if inner else library._get_module_for_linking(), preserve=True)

    def _called(self) -> Iterable[Any]:
        """Return the libraries of all functions that are called; one of Numba's holds what it calls itself."""
        found, left = {}, list(self._linking_libraries)
        while left:
            if (library := left.pop()) not in found:
                found[library] = True
                left += library._linking_libraries if isinstance(library, _InnerLibrary) else []
        return found

    def _optimize_final_module(self) -> None:
        builder = self._builder()
        passes = builder.getModulePassManager()
        passes.add_refprune_pass()
        passes.run(self._final_module, builder)

    def _builder(self) -> Any:
        options = binding.create_pipeline_tuning_options(int(config.OPT))
        options.loop_vectorization, options.slp_vectorization = config.LOOP_VECTORIZE, config.SLP_VECTORIZE
        options.loop_unrolling = False
        return binding.create_pass_builder(self._codegen._tm, options)


class _InnerLibrary(_Library):
    """Code for other libraries to link, without machine code."""

    _shared_module: Any

    def finalize(self) -> None:
        """Let other libraries link each function, which is left out where all calls are inlined."""
        for function in self._final_module.functions:
            if not function.is_declaration:
                function.linkage = "linkonce_odr"
        self._finalized = True

    def _get_module_for_linking(self) -> Any:
        """Return the function with all that it calls, for a function that is compiled Numba's own way."""
        if self._shared_module is None:
            self._shared_module = self._final_module.clone()
            self._link_to(self._shared_module)
        return self._shared_module

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


class Compiler(compiler.CompilerBase):
    """The compiler of entry points: Numba's without the passes that nothing in a kernel needs."""

    _library: Any = _Library

    def __init__(self, typing: Any, target: Any, library: Any, args: Any, result: Any, flags: Any, *rest: Any) -> None:
        super().__init__(typing, target, library, args, result, _known.setdefault(flags, _Flags(flags)), *rest)
        if library is None:
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
                if not gc.get_freeze_count():  # else somebody wants to keep what is frozen so
                    # All that is new now counts as old: to look through it at once would take a second.
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
    Translate,
    untyped_passes.FixupArgs,
    Simplify,
    typed_passes.NopythonTypeInference,
    Lowering,
    typed_passes.NoPythonBackend,
)


class InnerCompiler(Compiler):
    """The compiler of functions that only kernels call."""

    _library = _InnerLibrary
