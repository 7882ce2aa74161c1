"""LLVM's instructions without those that put tuples and arrays together only to take them apart again.

These are a third of all that kernels come to otherwise. LLVM would find that out too, after it has read them.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from llvmlite import ir


class Builder(ir.IRBuilder):
    """LLVM's builder, which knows what was put into a structure."""

    def extract_value(self, agg: Any, idx: Any, name: str = "") -> Any:
        """Return a member of a structure: what was put there, if that is known."""
        path = list(idx) if isinstance(idx, list | tuple) else [idx]
        while isinstance(agg, ir.instructions.InsertValue):
            place = list(agg.indices)
            if path[: len(place)] == place:
                agg, path = agg.value, path[len(place) :]
            elif place[: len(path)] == path:
                break
            else:
                agg = agg.aggregate
            if not path:
                return agg
        return super().extract_value(agg, path, name)


def remove_unread(function: Any) -> None:
    """Remove what takes members out of structures and puts structures together of which nothing is read."""
    read = Counter(id(value) for block in function.blocks for each in block.instructions for value in _operands(each))
    for block in reversed(function.blocks):
        kept = []
        for each in reversed(block.instructions):
            if isinstance(each, _STRUCTURES) and not read[id(each)]:
                for value in each.operands:
                    read[id(value)] -= 1
            else:
                kept.append(each)
        block.instructions = kept[::-1]


_STRUCTURES = ir.instructions.InsertValue, ir.instructions.ExtractValue


def _operands(instruction: Any) -> Any:
    if isinstance(instruction, ir.instructions.PhiInstr):
        return [value for value, _ in instruction.incomings]
    return instruction.operands
