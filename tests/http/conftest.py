import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import served  # noqa: E402


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """A folder of small models."""
    folder = tmp_path_factory.mktemp("models")
    for name, proto in served.small_models():
        served.save(folder, name, proto, served.COLOURS_CARD if name == "colours" else None)
    return folder


@pytest.fixture(scope="session")
def server(onnxd, models):
    """A server of them that no test changes."""
    with served.Server(onnxd, models) as s:
        yield s


@pytest.fixture()
def own(onnxd, tmp_path):
    """Start servers of one's own: own(models={name: proto}, flags...)."""
    started = []

    def start(protos, *flags, **options):
        folder = tmp_path / f"models{len(started)}"
        folder.mkdir()
        for name, proto in protos.items():
            served.save(folder, name, proto)
        s = served.Server(onnxd, folder, *flags, **options)
        s.folder = folder
        started.append(s)
        return s

    yield start
    for s in started:
        s.stop()
