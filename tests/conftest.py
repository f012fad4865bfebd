"""What the Python tests share. ONNXD names the program (build/onnxd)."""
import os
import pathlib

import pytest
from _pytest.runner import runtestprotocol

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


# ---- bounds on time

TRIES = 3


def pytest_configure(config):
    config.addinivalue_line("markers", "timed: holds something to a time, which another program at work can spoil")


def pytest_runtest_protocol(item, nextitem):
    """A timed test fails when it fails TRIES times, each on a fresh server."""
    if not item.get_closest_marker("timed"):
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for left in reversed(range(TRIES)):
        item._initrequest()  # fixtures of its own are made anew
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
        if not left or not any(r.failed for r in reports):
            break
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True
