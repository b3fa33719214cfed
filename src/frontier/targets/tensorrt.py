"""TensorRT: engines of the bare network, built ahead of time and without a GPU where RTX allows.

Precision stands in the graph: the network is strongly typed, INT8 comes as symmetric Q/DQ (s8s8),
everything else is float32. Letterbox and suppression are not part of the engine.

No engine was ever run where this was written: there was no NVIDIA GPU that the SDK installed
there can build for. What is checked is that the real parser and builder take the graphs.
"""

import ctypes
import importlib
import threading
from pathlib import Path
from typing import Any

import numpy as np

from frontier import params
from frontier.errors import StageFailed, TargetUnavailable, UsageError
from frontier.files import read_json, write_json
from frontier.targets.base import Arrays, Spelling

SDKS = ("tensorrt", "tensorrt_rtx")  # the full SDK where it can build: it needs a GPU to do so
INSTALL = 'pip install -e ".[tensorrt]" (NVIDIA\'s SDK), or pip install tensorrt-rtx'


class TensorRT:
    int8_spelling: Spelling = "s8s8"
    artifact = "model.engine"
    includes_postprocess = False
    timeable = False

    def __init__(self, target: params.Target) -> None:
        self.params = target

    def unavailable(self) -> str:
        if not _has_gpu():
            return (
                "no NVIDIA GPU on this machine: the engine was built ahead of time for compute "
                f"capability {self.params.compute_capability}; run it on such a GPU ({INSTALL})"
            )
        return "Frontier times and evaluates no TensorRT engine yet: the engine was only built"

    def build(self, model: Path, out: Path) -> Path:
        """Parse and compile a network; writes `model.engine` and `engine.json` beside it."""
        sdk, logger, builder = _builder()
        flag = 1 << int(sdk.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        network = builder.create_network(flag)
        parser = sdk.OnnxParser(network, logger)
        if not parser.parse(model.read_bytes()):
            errors = [parser.get_error(i).desc() for i in range(parser.num_errors)]
            raise StageFailed(f"{model.name}: TensorRT's parser refuses it: {_first(errors)}")
        engine = builder.build_serialized_network(network, self._config(sdk, builder))
        if engine is None:
            raise StageFailed(
                f"{model.name}: TensorRT cannot build it for compute capability "
                f"{self.params.compute_capability}: {_first(logger.errors)}"
            )
        path = out / self.artifact
        path.write_bytes(memoryview(engine))
        description = {
            "compute_capability": self.params.compute_capability,
            "sdk": sdk.__name__,
            "version": sdk.__version__,
            "inputs": _tensors(network.num_inputs, network.get_input),
            "outputs": _tensors(network.num_outputs, network.get_output),
        }
        write_json(out / "engine.json", description)
        return path

    def _config(self, sdk: Any, builder: Any) -> Any:
        """The full SDK builds for the GPU it runs on; RTX for the one that is named."""
        config = builder.create_builder_config()
        capability = self.params.compute_capability
        if capability is not None and hasattr(config, "set_compute_capability"):
            config.num_compute_capabilities = 1
            config.set_compute_capability(getattr(sdk.ComputeCapability, f"SM{capability}"), 0)
        return config

    def load(self, artifact: Path, threads: int) -> "EngineSession":
        """Load an engine of the bare network; `threads` means nothing to a GPU."""
        if not _has_gpu():
            raise TargetUnavailable(f"{artifact}: {self.unavailable()}")
        return EngineSession(artifact)


class EngineSession:
    """An engine on the first GPU, its tensors held by a CUDA build of torch."""

    def __init__(self, artifact: Path) -> None:
        import torch

        if not torch.cuda.is_available():
            raise TargetUnavailable(
                f"{artifact}: running an engine needs a CUDA build of torch; "
                "install torch from NVIDIA's wheels on the machine with the GPU"
            )
        description = read_json(artifact.with_name("engine.json"))
        sdk = _import(description["sdk"])  # the two kinds of engine are not each other's
        if sdk is None:
            raise TargetUnavailable(f"{artifact}: made by {description['sdk']}; {INSTALL}")
        self._runtime = sdk.Runtime(_logger(sdk))
        self._engine = self._runtime.deserialize_cuda_engine(artifact.read_bytes())
        if self._engine is None:
            raise TargetUnavailable(f"{artifact}: this GPU or SDK cannot load it: {description}")
        self._context = self._engine.create_execution_context()
        self._lock = threading.Lock()  # a context serves one thread at a time
        self.inputs: dict[str, tuple[str, list[Any]]] = {
            name: ("tensor(float)", shape) for name, shape in description["inputs"].items()
        }
        self._outputs: dict[str, list[int]] = description["outputs"]

    def run(self, feeds: Arrays) -> Arrays:
        """Named float32 inputs to named outputs.

        Raises:
            UsageError: an input is missing, unknown, or of a wrong shape or type.
        """
        import torch

        found = {name: list(value.shape) for name, value in feeds.items()}
        wanted = {name: shape for name, (_, shape) in self.inputs.items()}
        if found != wanted or any(value.dtype != np.float32 for value in feeds.values()):
            raise UsageError(f"engine inputs are float32 {wanted}, not {found}")
        with self._lock:
            given = {name: torch.from_numpy(value).cuda() for name, value in feeds.items()}
            made = {n: torch.empty(shape, device="cuda") for n, shape in self._outputs.items()}
            for name, tensor in {**given, **made}.items():
                self._context.set_tensor_address(name, tensor.data_ptr())
            stream = torch.cuda.current_stream()
            self._context.execute_async_v3(stream.cuda_stream)
            stream.synchronize()
        return {name: tensor.cpu().numpy() for name, tensor in made.items()}


def _import(name: str) -> Any:
    """An SDK's module; None where it, or a library that it loads, is not installed."""
    try:
        return importlib.import_module(name)
    except (ImportError, OSError):
        return None


def _builder() -> tuple[Any, Any, Any]:
    """The first SDK that builds on this machine, with a logger and a builder of it.

    Raises:
        TargetUnavailable: none does; says why for each that is installed.
    """
    reasons = []
    for sdk in filter(None, map(_import, SDKS)):
        logger = _logger(sdk)
        try:
            return sdk, logger, sdk.Builder(logger)
        except (RuntimeError, TypeError) as error:
            words = _first([*logger.errors, str(error)])
            reasons.append(f"{sdk.__name__} cannot build on this machine ({words})")
    raise TargetUnavailable(f"tensorrt: {'; '.join(reasons) or 'no SDK is installed'}; {INSTALL}")


def _logger(sdk: Any) -> Any:
    class Collected(sdk.ILogger):  # type: ignore[misc]
        """Keeps errors for our own message instead of printing them."""

        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (sdk.ILogger.Severity.ERROR, sdk.ILogger.Severity.INTERNAL_ERROR):
                self.errors.append(message)

    return Collected()


def _tensors(count: int, get: Any) -> dict[str, list[int]]:
    return {get(index).name: list(get(index).shape) for index in range(count)}


def _first(errors: list[str]) -> str:
    """The first error, on one line, bounded."""
    return " ".join(errors[0].split())[:400] if errors else "no reason given"


def _has_gpu() -> bool:
    """Whether NVIDIA's driver is there and answers."""
    try:
        return int(ctypes.CDLL("libcuda.so.1").cuInit(0)) == 0
    except OSError:
        return False
