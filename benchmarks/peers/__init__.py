"""eventsnn beside the programs that people would otherwise use: ``python -m benchmarks.peers``.

Same work, same weights, same inputs, in one process, turn by turn; results as lines of JSON. See ``benchmarks/README.md``.
"""
