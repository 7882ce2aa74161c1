import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from eventsnn.backends import NAMES, get

SHARED = Path(__file__).parents[1].parent / "shared"
DATA = Path(os.environ.get("EVENTSNN_DATA") or SHARED / "data")
GOLDEN = Path(os.environ.get("EVENTSNN_GOLDEN") or SHARED / "golden" / "spyketorch.h5")

# A first example may wait for compilation, so no deadline; "ci" repeats the same examples in every run. With
# HYPOTHESIS_PROFILE=thorough, before a release, tests that do not say how many they need draw ten times as many.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=40)
settings.register_profile("ci", settings.get_profile("default"), derandomize=True)
settings.register_profile("thorough", settings.get_profile("default"), max_examples=400)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "default"))

# A shell that starts the tests in the background turns Ctrl-C off in them and in what they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _present(path, variable):
    if not path.exists():
        pytest.skip(f"{path} is absent; {variable} may name another place")
    return path


@pytest.fixture(scope="session")
def data_path():
    """Return the folder of data sets; a test that asks for it is skipped where there is none."""
    return _present(DATA, "EVENTSNN_DATA")


@pytest.fixture(scope="session")
def golden_path():
    """Return the file of SpykeTorch's outputs; a test that asks for it is skipped where there is none."""
    return _present(GOLDEN, "EVENTSNN_GOLDEN")


@pytest.fixture(scope="session", params=sorted(NAMES))
def backend(request):
    """Return every backend in turn."""
    return get(request.param)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Return a function that puts bytes into a file, whose name says nothing."""
    path = tmp_path_factory.mktemp("files") / "recording"

    def put(content):
        path.write_bytes(content)
        return path

    return put


@pytest.fixture
def call(capsys):
    """Return a function that runs the command line and returns exit code, stdout and stderr."""
    from eventsnn import cli

    def run(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            cli.main([str(argument) for argument in arguments])
        return left.value.code or 0, *capsys.readouterr()

    return run
