"""What the Python tests share. ONNXD names the program (build/onnxd)."""
import os
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def root():
    """The project's folder."""
    return ROOT


@pytest.fixture(scope="session")
def onnxd():
    """The path of the built program, as text."""
    program = pathlib.Path(os.environ.get("ONNXD", ROOT / "build" / "onnxd")).resolve()
    if not program.exists():
        pytest.skip(f"{program} is not built: make")
    return str(program)
