"""The kernels for real architectures, compiled without a driver; what to install where CuPy or a device is missing."""

import sys
from types import ModuleType, SimpleNamespace

import pytest

from eventsnn import cli
from eventsnn.arguments import check_backend
from eventsnn.backends import cuda_rules, device, get
from eventsnn.backends.nvrtc import OPTIONS, compiled
from eventsnn.console import UsageError


@pytest.fixture(scope="module")
def nvrtc():
    """Return NVIDIA's run-time compiler, which needs no driver."""
    try:
        from cupy.cuda import nvrtc

        nvrtc.getVersion()
    except Exception as error:
        pytest.skip(f"no NVRTC: {error!r}; pip install cupy-cuda13x nvidia-cuda-nvrtc")
    return nvrtc


def cubin(nvrtc, source, architecture):
    program = nvrtc.createProgram(source, "kernels.cu", (), ())
    nvrtc.compileProgram(program, (*OPTIONS, f"--gpu-architecture=sm_{architecture}"))
    return nvrtc.getCUBIN(program)


@pytest.mark.parametrize("architecture", [75, 80, 86, 90, 100])
def test_kernels_compile(nvrtc, architecture):
    assert cubin(nvrtc, device.source(), architecture).startswith(b"\x7fELF")


def test_what_is_wrong_does_not_compile(nvrtc):
    with pytest.raises(nvrtc.NVRTCError):
        cubin(nvrtc, device.source().replace("const i64 end", "const end", 1) + "}", 90)


def test_multiplication_and_addition_stay_apart(nvrtc):
    def fused(names, options):
        program = nvrtc.createProgram(device.source(names), "kernels.cu", (), ())
        nvrtc.compileProgram(program, (*options, "--gpu-architecture=compute_90"))
        return b"fma.rn.f32" in nvrtc.getPTX(program)

    assert not fused([name for name in device.SOURCES if name != "images.cu"], OPTIONS)  # images.cu asks for it
    assert fused(["kernels.cu"], [option for option in OPTIONS if "fmad" not in option])


def test_tiny_floats_are_not_made_zero(nvrtc):
    program = nvrtc.createProgram(device.source(), "kernels.cu", (), ())
    nvrtc.compileProgram(program, (*OPTIONS, "--gpu-architecture=compute_90"))
    assert b".ftz" not in nvrtc.getPTX(program)


def test_what_is_compiled_is_kept(nvrtc, tmp_path, monkeypatch):
    text = cuda_rules.with_own(device.source(), lambda w, dt: max(w, 0.5) ** 2 if dt > 0 else w // 3 % 2)
    path = compiled(text, "sm_90", tmp_path / "cache")
    assert path.read_bytes().startswith(b"\x7fELF")
    monkeypatch.setattr(nvrtc, "compileProgram", None)
    assert compiled(text, "sm_90", tmp_path / "cache") == path
    assert list(path.parent.iterdir()) == [path]


def test_the_error_holds_what_the_compiler_says(nvrtc, tmp_path):
    with pytest.raises(RuntimeError, match=r"the kernels do not compile .*expected a"):
        compiled("__device__ int f() { return 1 }", "sm_90", tmp_path)


def test_without_cupy_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    device.cuda_device.cache_clear()
    with pytest.raises(RuntimeError, match=r"needs CuPy, .*pip install 'eventsnn\[cuda13\]'"):
        get("cuda:5")


def test_the_command_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    device.cuda_device.cache_clear()
    with pytest.raises(UsageError, match=r"--backend: the cuda backend needs CuPy, .*pip install"):
        check_backend("cuda:5")


@pytest.mark.parametrize("command", ["demo -o out", "train digits --data digits -o out", "evaluate run --data d.h5"])
def test_the_shell_says_what_to_install_before_any_work(command, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.setenv("EVENTSNN_BACKEND", "cuda:6")
    monkeypatch.chdir(tmp_path)
    said = in_one_line(command, capsys)
    assert f"eventsnn {command.split()[0]}: EVENTSNN_BACKEND: the cuda backend needs CuPy, " in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["features run --data d.h5 -o f.h5", "evaluate run --data d.h5"])
@pytest.mark.parametrize("option", ["--devices cpu:0,cuda:6", "--backend cuda:6"])
def test_the_shell_says_what_devices_lack(command, option, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.chdir(tmp_path)
    said = in_one_line(f"{command} {option}", capsys)
    assert f"eventsnn {command.split()[0]}: {option.split()[0]}: the cuda backend needs CuPy, " in said


def in_one_line(command, capsys):
    """Return what a command says that is refused, after it has said it in one line."""
    device.cuda_device.cache_clear()
    with pytest.raises(SystemExit) as left:
        cli.main(command.split())
    said = capsys.readouterr()
    assert (left.value.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert "pip install 'eventsnn[cuda13]'" in said.err
    return said.err


@pytest.mark.parametrize(
    ("driver", "cupys", "remedy"),
    [
        (0, 13000, "install NVIDIA's driver; it is there when `nvidia-smi` shows the device$"),
        (None, None, "install NVIDIA's driver"),
        (12040, 13010, r"the driver is for CUDA 12\.4, CuPy for CUDA 13\.1: install a newer driver, or pip uninstall "
         r"cupy-cuda13x and pip install 'eventsnn\[cuda12\]'$"),
        (11080, 12090, r"the driver is for CUDA 11\.8, CuPy for CUDA 12\.9: install a newer driver$"),
        (13000, 13010, "CUDA_VISIBLE_DEVICES may hide it$"),
        (13000, 12090, "CUDA_VISIBLE_DEVICES may hide it$"),
    ],
)  # fmt: skip
def test_without_a_device_the_error_says_what_to_change(driver, cupys, remedy, monkeypatch):
    class Runtime:
        class CUDARuntimeError(RuntimeError):
            pass

        def getDeviceCount():  # noqa: N802
            raise Runtime.CUDARuntimeError("cudaErrorSomething")

        def driverGetVersion():  # noqa: N802
            if driver is None:
                raise Runtime.CUDARuntimeError("cudaErrorSomething")
            return driver

        def runtimeGetVersion():  # noqa: N802
            return cupys

    cupy = ModuleType("cupy")
    cupy.cuda = SimpleNamespace(runtime=Runtime)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    device.cuda_device.cache_clear()
    with pytest.raises(RuntimeError, match=r"found none \(cudaErrorSomething\): .*" + remedy):
        get("cuda:7")


def test_cupys_lack_of_memory_is_the_one_that_is_handled():
    assert issubclass(pytest.importorskip("cupy").cuda.memory.OutOfMemoryError, MemoryError)


def test_without_a_device_the_error_says_so():
    cupy = pytest.importorskip("cupy")
    try:
        there = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError:
        there = 0
    device.cuda_device.cache_clear()
    with pytest.raises(RuntimeError, match=r"needs a CUDA device|number of CUDA devices"):
        get(f"cuda:{there}")


@pytest.mark.parametrize("name", ["cuda:", "cuda:x", "cuda1", "gpu", "cuda:-1"])
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match="backend expects one of cpu, reference, cuda"):
        get(name)


def test_the_environment_may_name_a_device(monkeypatch):
    monkeypatch.setenv("EVENTSNN_BACKEND", "cuda:3")
    monkeypatch.setitem(sys.modules, "cupy", None)
    device.cuda_device.cache_clear()
    with pytest.raises(RuntimeError, match="cuda backend"):
        get()
