"""eventsnn beside the programs that people would otherwise use: ``python -m benchmarks.peers``."""
