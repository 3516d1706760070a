"""OpenVINO without its telemetry, and safe to use from several threads."""

import sys
import threading
from typing import Any

import numpy as np

_lock = threading.Lock()


def import_openvino() -> Any:
    """Imports OpenVINO and returns the module. Raises ModuleNotFoundError where it has no wheel.

    Without this, `import openvino` reports the import to its makers over the network, in a forked process, and the
    first two inferences hang for ever where two threads make them at once.
    """
    modules: dict[str, Any] = sys.modules
    modules.setdefault("openvino_telemetry", None)  # cannot be imported, so that OpenVINO uses its own stand-in

    with _lock:
        import openvino

        # The binding looks NumPy up at its first array, in a static initialiser that releases the GIL: a second thread
        # then holds the GIL and waits for the initialiser, which waits for the GIL. Here, no second thread is in it.
        _ = openvino.Tensor(np.zeros(1, np.float32)).data
    return openvino
