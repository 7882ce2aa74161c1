"""The kernels under the sanitizers: real threads for those of a block, and two groups of them for blocks that race."""

import os
import subprocess
import sys
from pathlib import Path

import hostcuda
import pytest
from hostcuda.examples import OWN_RULE

from eventsnn.backends import device
from eventsnn.backends.cuda_rules import with_own

TESTS = Path(__file__).parent
THREAD = ("thread", ("-fsanitize=thread", "-DTHREADS"))
ADDRESS = ("address", ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-DTHREADS"))
RUNTIMES = {"thread": "libtsan.so", "address": "libasan.so"}
pytestmark = pytest.mark.skipif(
    hostcuda.COMPILER is None or not hostcuda.COMPILER.endswith("g++"), reason="the sanitizers are taken from g++"
)


def run(sanitizer, source):
    """Run the examples in a process that has a sanitizer's runtime from its beginning; return it."""
    name, flags = sanitizer
    found = [hostcuda.COMPILER, f"-print-file-name={RUNTIMES[name]}"]
    runtime = subprocess.run(found, capture_output=True, text=True, check=True).stdout.strip()
    if not Path(runtime).is_file():
        pytest.skip(f"g++ has no {RUNTIMES[name]}")
    environment = os.environ | {
        "LD_PRELOAD": runtime,
        "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)]),
        "TSAN_OPTIONS": "exitcode=66 halt_on_error=1",
        "ASAN_OPTIONS": "detect_leaks=0 exitcode=66",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    library = hostcuda.build(with_own(source, OWN_RULE), flags)
    command = [sys.executable, "-m", "hostcuda.examples", str(library)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("sanitizer", [THREAD, ADDRESS], ids=["thread", "address"])
def test_kernels_are_clean(sanitizer):
    ran = run(sanitizer, device.source())
    assert ran.returncode == 0, ran.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sanitizer", "old", "new", "report"),
    [
        (THREAD, "    __syncthreads();  // scratch may be used again\n", "", "data race"),
        (THREAD, "atomicMin(when + place", "when[place] = 0; atomicMin(when + place", "data race"),
        (THREAD, "        __threadfence();\n", "", "data race"),
        (ADDRESS, "if (place >= places ||", "if (place > places ||", "heap-buffer-overflow"),
        (ADDRESS, "(i64)(row[i] >> 1) * in.padded", "(row[i] << 29) * in.padded", "runtime error"),
    ],
    ids=["barrier", "blocks", "fence", "bounds", "overflow"],
)
def test_what_is_planted_is_found(sanitizer, old, new, report):
    source = device.source()
    assert old in source
    ran = run(sanitizer, source.replace(old, new, 1))
    assert ran.returncode != 0
    assert report in ran.stderr
