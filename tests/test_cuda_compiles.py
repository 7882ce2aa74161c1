"""The kernels for real architectures, compiled without a driver; what to install where CuPy or a device is missing."""

import sys

import pytest

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
