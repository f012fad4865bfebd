"""/openapi.json says what the server does: it has every route, and generated requests find nothing else."""
import re
import subprocess
import sys

import pytest

import served

pytest.importorskip("schemathesis")

# Which data a model takes no schema can say, so valid requests are refused too; 501 is what is never done.
ALL_BUT = ["--checks", "all", "--exclude-checks", "positive_data_acceptance,not_a_server_error"]
NEVER_DONE = r"trace/setting$|register$|^/v2/repository/\{repository\}"


def test_every_route_is_described_and_nothing_else(server, root):
    routes = re.findall(r'\{"(GET|POST)", "([^"]*)", srv_', (root / "server/protocols/routes.c").read_text())
    described = {(method.upper(), re.sub(r"\{[a-z]+\}", "{}", path)) for path, item in server.json("GET", "/openapi.json")[1]["paths"].items()
                 for method in item}
    pages = {("GET", path) for path in ("", "/")}  # for people
    assert set(routes) - pages == described


@pytest.mark.parametrize("model, paths", [("identity", "."), ("colours", "predict")])
def test_generated_requests_find_nothing(onnxd, models, tmp_path, model, paths):
    with served.Server(onnxd, models) as s:  # of its own: the requests change settings
        generate(s, tmp_path, model, paths)


def generate(server, tmp_path, model, paths):
    config = tmp_path / "schemathesis.toml"
    config.write_text(f'[parameters]\n"path.model" = "{model}"\n"path.version" = "1"\n')
    base = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run", f"http://{server.url}/openapi.json", "--seed", "1",
            "--max-examples", "5", "--phases", "examples,coverage,fuzzing,stateful", "--continue-on-failure", "--no-color",
            "--exclude-operation-id", "unload", "--include-path-regex", paths]
    for more in (ALL_BUT, ["--checks", "not_a_server_error", "--exclude-path-regex", NEVER_DONE]):
        done = subprocess.run(base + more, capture_output=True, text=True, timeout=300, cwd=tmp_path)
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert server.json("GET", "/v2/health/ready")[0] == 200
