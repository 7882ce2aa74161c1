"""``python -m benchmarks.peers``: measure eventsnn and its peers, and record it in ``results/peers.jsonl``."""

from __future__ import annotations

import os

for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "EVENTSNN_THREADS"):
    os.environ[_variable] = "1"  # before anything is imported that reads them

from benchmarks.peers.main import main  # noqa: E402

if __name__ == "__main__":
    main()
