"""Variables of a function to be compiled: what is assigned where, and what of it is seen where.

Sets of assignments, and of blocks, are numbers with a bit for each.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from numba.core import ir, ir_utils


def split(blocks: dict[int, Any]) -> None:
    """Give variables another name for each set of their assignments of which no use sees any other.

    So what is merely called the same need not be of one type. Numba's own way to this end makes a variable of each
    assignment, and others where these meet; all of them are to be typed, written down and optimized away.
    """
    made = {name: places for name, places in _assignments(blocks).items() if len(places) > 1}
    bits = {id(place): 1 << i for i, place in enumerate(place for places in made.values() for place in places)}
    all_of = {name: sum(bits[id(place)] for place in places) for name, places in made.items()}
    uses = defaultdict(list)
    for instruction, name, seen in _uses(blocks, bits, all_of):
        uses[name].append((instruction, seen))
    for name, places in made.items():
        for each in _sets([bits[id(place)] for place in places], [seen for _, seen in uses[name]])[1:]:
            variable = places[0].target.scope.redefine(name, places[0].loc)
            for place in places:
                if bits[id(place)] & each:
                    place.target = variable
            for instruction, seen in uses[name]:
                if seen & each:
                    _replace(instruction, name, variable)


def _sets(single: list[int], seen: list[int]) -> list[int]:
    """Return the sets of assignments of which no use sees those of two."""
    sets = single
    for each in seen:
        if len(met := [one for one in sets if one & each]) > 1:
            sets = [one for one in sets if not one & each] + [sum(met)]
    return sets


def _assignments(blocks: dict[int, Any]) -> dict[str, list[Any]]:
    made = defaultdict(list)
    for block in blocks.values():
        for instruction in block.body:
            if isinstance(instruction, ir.Assign):
                made[instruction.target.name].append(instruction)
    return made


def _uses(blocks: dict[int, Any], bits: dict[int, int], all_of: dict[str, int]) -> Iterator[tuple[Any, str, int]]:
    """Yield instructions, variables that they use, and which assignments they may see."""
    for label, seen in _seen(blocks, bits, all_of).items():
        for instruction in blocks[label].body:
            for name in used(instruction):
                if name in all_of:
                    yield instruction, name, seen & all_of[name]
            if id(instruction) in bits:
                seen = seen & ~all_of[instruction.target.name] | bits[id(instruction)]


def _seen(blocks: dict[int, Any], bits: dict[int, int], all_of: dict[str, int]) -> dict[int, int]:
    """Return which assignments may be seen at the beginning of each block."""
    new, old = dict.fromkeys(blocks, 0), dict.fromkeys(blocks, 0)
    for label, block in blocks.items():
        for instruction in block.body:
            if id(instruction) in bits:
                every = all_of[instruction.target.name]
                new[label], old[label] = new[label] & ~every | bits[id(instruction)], old[label] | every
    begin, left = dict.fromkeys(blocks, 0), sorted(blocks, reverse=True)
    while left:
        label = left.pop()
        end = begin[label] & ~old[label] | new[label]
        for target in blocks[label].terminator.get_targets():
            if end & ~begin[target]:
                begin[target] |= end
                left.append(target)
    return begin


def used(instruction: Any) -> set[str]:
    """Return the names of the variables that an instruction reads."""
    if not isinstance(instruction, ir.Assign):
        return {variable.name for variable in instruction.list_vars()}
    value = instruction.value
    if isinstance(value, ir.Var):
        return {value.name}
    return {variable.name for variable in value.list_vars()} if isinstance(value, ir.Inst) else set()


def _replace(instruction: Any, name: str, variable: Any) -> None:
    if isinstance(instruction, ir.Assign):
        instruction.value = ir_utils.replace_vars_inner(instruction.value, {name: variable})
    else:
        ir_utils.replace_vars_stmt(instruction, {name: variable})


def constant(blocks: dict[int, Any]) -> set[str]:
    """Return the variables that are assigned once, before all uses, which see nothing else."""
    bits, before = {label: 1 << i for i, label in enumerate(blocks)}, _before(blocks)
    at: dict[str, int] = {}
    other = set()
    for label in sorted(blocks):
        for instruction in blocks[label].body:
            other |= {name for name in used(instruction) if name not in at or not before[label] & bits[at[name]]}
            if isinstance(instruction, ir.Assign):
                if (name := instruction.target.name) in at:
                    other.add(name)
                at[name] = label
    return at.keys() - other


def _before(blocks: dict[int, Any]) -> dict[int, int]:
    """Return for each block those without which it is not reached, itself among them."""
    first, every = min(blocks), (1 << len(blocks)) - 1
    bits = {label: 1 << i for i, label in enumerate(blocks)}
    before = {label: bits[label] if label == first else every for label in blocks}
    left = [first]
    while left:
        label = left.pop()
        for target in blocks[label].terminator.get_targets():
            if before[target] & ~(before[label] | bits[target]):
                before[target] &= before[label] | bits[target]
                left.append(target)
    return before
