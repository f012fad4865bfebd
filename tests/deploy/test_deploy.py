"""The files of deploy/ and the Dockerfile: each is parsed, and what they say of each other and of the
program is compared. No container engine and no cluster is needed."""
import configparser
import json
import os
import re
import shutil
import subprocess

import pytest
import yaml

PORT = 8000


def read(root, name):
    return (root / name).read_text()


# ---- Dockerfile

def instructions(text):
    """[(stage, INSTRUCTION, arguments)], with continued lines joined and comments dropped."""
    lines = [l for l in text.splitlines() if l.strip() and not l.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines)).splitlines()
    out, stage = [], -1
    for line in joined:
        word, _, rest = line.partition(" ")
        stage += word == "FROM"
        out.append((stage, word, rest.strip()))
    return out


@pytest.fixture(scope="module")
def docker(root):
    return instructions(read(root, "Dockerfile"))


def of(docker, word, stage=None):
    return [rest for s, w, rest in docker if w == word and stage in (None, s)]


def test_the_dockerfile_has_only_known_instructions_and_a_base_that_can_be_replaced(docker):
    known = {"ARG", "FROM", "RUN", "COPY", "WORKDIR", "USER", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD"}
    assert docker[0] == (-1, "ARG", "BASE=debian:12-slim")
    assert {w for _, w, _ in docker} <= known


def test_the_image_is_built_in_two_stages_from_a_fixed_release(docker):
    stages = of(docker, "FROM")
    assert stages == ["$BASE AS build", "scratch"]


def test_the_final_image_runs_as_a_user_without_rights(docker):
    user, = of(docker, "USER", 1)
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    assert f"onnxd:x:{user}:" in " ".join(of(docker, "RUN", 0)), "the user is in the image's passwd"


def test_nothing_is_run_in_the_final_stage(docker):
    assert not of(docker, "RUN", 1), "scratch has no shell"
    assert all(rest.startswith("--from=build ") for rest in of(docker, "COPY", 1))


def test_the_image_probes_itself_with_the_program(docker):
    probe, = of(docker, "HEALTHCHECK", 1)
    command = json.loads(probe[probe.index("CMD ") + 4:])
    assert command == ["/usr/bin/onnxd", "health"]
    assert json.loads(of(docker, "ENTRYPOINT", 1)[0]) == ["/usr/bin/onnxd"]
    assert json.loads(of(docker, "CMD", 1)[0]) == ["serve", "/models", "--host", "0.0.0.0"]
    assert of(docker, "EXPOSE", 1) == [str(PORT)]


def test_the_image_installs_what_the_makefile_installs(docker, root):
    listed = subprocess.run(["sh", "tools/deps.sh", "--list", "build"], cwd=root, capture_output=True, text=True,
                            check=True).stdout.split()
    apt = next(r for r in of(docker, "RUN", 0) if "apt-get install" in r)
    named = re.search(r"--no-install-recommends\s+(.*?)\s*&&", apt).group(1).split()
    assert named == listed
    assert "rm -rf /var/lib/apt/lists/*" in apt


def test_the_build_context_holds_every_source_and_no_more(root):
    allowed = {l[1:] for l in read(root, ".dockerignore").splitlines() if l.startswith("!")}
    assert allowed == {"Makefile", "proto", "engine", "loaders", "server"}
    assert all((root / name).exists() for name in allowed)


# ---- compose, Prometheus, Grafana

@pytest.fixture(scope="module")
def compose(root):
    return yaml.safe_load(read(root, "deploy/compose.yaml"))


SERVICE_KEYS = {"build", "image", "command", "ports", "volumes", "environment", "read_only", "cap_drop",
                "security_opt", "restart", "stop_grace_period", "deploy", "depends_on"}


def test_compose_says_only_what_the_format_knows(compose):
    assert set(compose) <= {"name", "services", "volumes"}
    for name, service in compose["services"].items():
        assert set(service) <= SERVICE_KEYS, name
        assert "build" in service or re.search(r":v?\d", service["image"]), f"{name}: a fixed version"


def test_compose_mounts_exist_and_volumes_are_declared(compose, root):
    for name, service in compose["services"].items():
        for mount in service.get("volumes", []):
            source = re.sub(r"\$\{\w+:-(.*?)\}", r"\1", mount).split(":")[0]
            if source.startswith("./"):
                assert (root / "deploy" / source).exists(), f"{name}: {mount}"
            elif not source.startswith("../"):
                assert source in compose["volumes"], f"{name}: {mount}"


def test_compose_depends_only_on_services_and_health_that_exist(compose, docker):
    for service in compose["services"].values():
        depends = service.get("depends_on", [])
        assert set(depends) <= set(compose["services"])
        if isinstance(depends, dict):
            for on, how in depends.items():
                assert how["condition"] != "service_healthy" or (on == "onnxd" and of(docker, "HEALTHCHECK"))


def test_compose_publishes_on_the_loopback_address_only(compose):
    for service in compose["services"].values():
        for port in service.get("ports", []):
            assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port), port


def test_compose_takes_rights_from_the_server(compose):
    onnxd = compose["services"]["onnxd"]
    assert onnxd["read_only"] is True and onnxd["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in onnxd["security_opt"]
    assert onnxd["deploy"]["resources"]["limits"]["memory"]


def test_prometheus_asks_the_service_that_compose_starts(compose, root):
    config = yaml.safe_load(read(root, "deploy/prometheus.yml"))
    assert set(config) <= {"global", "scrape_configs", "rule_files", "alerting"}
    job, = config["scrape_configs"]
    target, = job["static_configs"][0]["targets"]
    assert target.split(":")[0] in compose["services"] and target.endswith(f":{PORT}")
    assert job["metrics_path"] == "/metrics"


@pytest.fixture(scope="module")
def dashboard(root):
    return json.loads(read(root, "deploy/grafana/dashboards/onnxd.json"))


def expressions(dashboard):
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]


def test_grafana_finds_its_datasource_and_dashboards(compose, dashboard, root):
    sources = yaml.safe_load(read(root, "deploy/grafana/provisioning/datasources/prometheus.yaml"))
    source, = sources["datasources"]
    assert source["url"] == "http://prometheus:9090" and "prometheus" in compose["services"]
    for panel in dashboard["panels"]:
        if "targets" in panel:
            assert panel["datasource"] == {"type": "prometheus", "uid": source["uid"]}, panel["title"]
    provider, = yaml.safe_load(read(root, "deploy/grafana/provisioning/dashboards/onnxd.yaml"))["providers"]
    mounts = compose["services"]["grafana"]["volumes"]
    assert any(m.split(":")[1] == provider["options"]["path"] for m in mounts)


def test_grafana_panels_have_numbers_of_their_own_and_do_not_overlap(dashboard):
    panels = dashboard["panels"]
    assert len({p["id"] for p in panels}) == len(panels)
    taken = set()
    for p in panels:
        g = p["gridPos"]
        assert g["x"] + g["w"] <= 24, p["title"]
        cells = {(x, y) for x in range(g["x"], g["x"] + g["w"]) for y in range(g["y"], g["y"] + g["h"])}
        assert not cells & taken, p["title"]
        taken |= cells


def test_grafana_expressions_are_balanced_and_ask_for_metrics_that_the_server_writes(dashboard, root):
    source = "".join(p.read_text() for p in (root / "server").rglob("*.[ch]"))
    written = set(re.findall(r"\bonnxd_[a-z0-9_]+|\bprocess_[a-z0-9_]+", source))
    asked = set()
    for title, expr in expressions(dashboard):
        for opening, closing in ("()", "{}", "[]"):
            assert expr.count(opening) == expr.count(closing), title
        asked |= set(re.findall(r"\b(?:onnxd|process)_[a-z0-9_]+", expr))
    assert asked, "the dashboard asks for something"
    missing = {m for m in asked if m not in written and re.sub(r"_(bucket|sum|count)$", "", m) not in written}
    assert not missing


# ---- Kubernetes

@pytest.fixture(scope="module")
def objects(root):
    return {o["kind"]: o for o in yaml.safe_load_all(read(root, "deploy/kubernetes/onnxd.yaml"))}


VERSIONS = {"Deployment": "apps/v1", "Service": "v1", "PersistentVolumeClaim": "v1"}


def test_kubernetes_objects_are_of_known_kinds_with_lawful_names(objects):
    assert set(objects) == set(VERSIONS)
    for kind, o in objects.items():
        assert o["apiVersion"] == VERSIONS[kind]
        assert set(o) == {"apiVersion", "kind", "metadata", "spec"}
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", o["metadata"]["name"])


def test_kubernetes_selectors_find_the_pod(objects):
    spec = objects["Deployment"]["spec"]
    labels = spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"].items() <= labels.items()
    assert objects["Service"]["spec"]["selector"].items() <= labels.items()


@pytest.fixture(scope="module")
def pod(objects):
    return objects["Deployment"]["spec"]["template"]["spec"]


@pytest.fixture(scope="module")
def container(pod):
    c, = pod["containers"]
    return c


CONTAINER_KEYS = {"name", "image", "imagePullPolicy", "args", "ports", "startupProbe", "livenessProbe",
                  "readinessProbe", "resources", "securityContext", "volumeMounts"}
PROBE_KEYS = {"httpGet", "periodSeconds", "timeoutSeconds", "failureThreshold"}


def test_kubernetes_probes_ask_the_right_paths_on_a_named_port(objects, container):
    assert set(container) <= CONTAINER_KEYS
    ports = {p["name"]: p["containerPort"] for p in container["ports"]}
    for name, path in (("startupProbe", "live"), ("livenessProbe", "live"), ("readinessProbe", "ready")):
        assert set(container[name]) <= PROBE_KEYS
        assert container[name]["httpGet"]["path"] == f"/v2/health/{path}"
        assert container[name]["httpGet"]["port"] in ports
    service, = objects["Service"]["spec"]["ports"]
    assert ports[service["targetPort"]] == PORT == service["port"]


def amount(text):
    units = {"m": 1e-3, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "": 1}
    number, unit = re.fullmatch(r"(\d+)([A-Za-z]*)", text).groups()
    return float(number) * units[unit]


def test_kubernetes_limits_are_set_and_not_below_the_requests(container):
    limits, requests = container["resources"]["limits"], container["resources"]["requests"]
    for what in ("cpu", "memory"):
        assert amount(limits[what]) >= amount(requests[what]) > 0


def test_kubernetes_takes_rights_from_the_pod(pod, container, docker):
    outer, inner = pod["securityContext"], container["securityContext"]
    assert outer["runAsNonRoot"] is True
    assert f"{outer['runAsUser']}:{outer['runAsGroup']}" == of(docker, "USER", 1)[0]
    assert outer["seccompProfile"]["type"] == "RuntimeDefault"
    assert inner["allowPrivilegeEscalation"] is False and inner["readOnlyRootFilesystem"] is True
    assert inner["capabilities"]["drop"] == ["ALL"]
    assert pod["automountServiceAccountToken"] is False


def test_kubernetes_volumes_exist(objects, pod, container):
    volumes = {v["name"]: v for v in pod["volumes"]}
    for mount in container["volumeMounts"]:
        assert mount["name"] in volumes and mount["readOnly"] is True
        assert mount["mountPath"] in container["args"], "the folder that is served"
    claim = volumes["models"]["persistentVolumeClaim"]["claimName"]
    assert claim == objects["PersistentVolumeClaim"]["metadata"]["name"]


def test_the_flags_that_deploy_files_use_are_the_programs(container, docker, onnxd):
    shown = subprocess.run([onnxd, "serve", "--help"], capture_output=True, text=True, timeout=20)
    assert shown.returncode == 0
    used = [a for a in container["args"] + json.loads(of(docker, "CMD", 1)[0]) if a.startswith("--")]
    for flag in used:
        assert re.search(re.escape(flag) + r"\b", shown.stdout + shown.stderr), flag


# ---- systemd

@pytest.fixture(scope="module")
def unit(root):
    parser = configparser.RawConfigParser(strict=False, delimiters=("=",))
    parser.optionxform = str
    parser.read_string(read(root, "deploy/systemd/onnxd.service"))
    return parser


def test_the_unit_runs_the_installed_program_without_rights(unit):
    service = dict(unit["Service"])
    assert service["ExecStart"].split()[:2] == ["/usr/local/bin/onnxd", "serve"]
    for key, value in {"DynamicUser": "yes", "NoNewPrivileges": "yes", "ProtectSystem": "strict",
                       "PrivateTmp": "yes", "PrivateDevices": "yes", "MemoryDenyWriteExecute": "yes",
                       "CapabilityBoundingSet": ""}.items():
        assert service[key] == value, key
    assert f"/var/lib/{service['StateDirectory']}" in service["ExecStart"]


def unit_with_a_program_that_exists(root, folder):
    path = folder / "onnxd.service"
    path.write_text(read(root, "deploy/systemd/onnxd.service").replace("/usr/local/bin/onnxd", "/bin/true"))
    return path


def systemd_analyze(*args):
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    return subprocess.run(["systemd-analyze", *args], capture_output=True, text=True, timeout=60)


def test_systemd_verifies_the_unit(root, tmp_path):
    done = systemd_analyze("verify", "--man=no", str(unit_with_a_program_that_exists(root, tmp_path)))
    assert done.returncode == 0 and not done.stderr.strip(), done.stderr


def test_systemd_finds_little_exposure(root, tmp_path):
    done = systemd_analyze("security", "--offline=true", "--threshold=20", "--no-pager",
                           str(unit_with_a_program_that_exists(root, tmp_path)))
    assert done.returncode == 0, done.stdout[-300:] + done.stderr


# ---- installing and packing

def test_install_and_uninstall_leave_nothing_behind(root, onnxd, tmp_path):
    build = os.path.dirname(onnxd)
    common = ["make", "-s", "-o", "all", f"B={build}", f"DESTDIR={tmp_path}", "PREFIX=/opt/onnxd"]
    subprocess.run(common + ["install"], cwd=root, check=True, capture_output=True, timeout=120)
    files = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())
    assert files == ["opt/onnxd/bin/onnxd", "opt/onnxd/lib/systemd/system/onnxd.service"]
    assert "ExecStart=/opt/onnxd/bin/onnxd serve" in (tmp_path / files[1]).read_text()
    subprocess.run(common + ["uninstall"], cwd=root, check=True, capture_output=True, timeout=120)
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_deps_refuses_a_group_that_it_does_not_know(root):
    done = subprocess.run(["sh", "tools/deps.sh", "nonsense"], cwd=root, capture_output=True, text=True)
    assert done.returncode == 2 and "unknown group 'nonsense'" in done.stderr


def test_make_help_names_every_target_of_daily_use(root):
    shown = subprocess.run(["make", "-s", "help"], cwd=root, capture_output=True, text=True, check=True).stdout
    targets = {line.split()[0] for line in shown.splitlines() if line.strip()}
    assert targets >= {"all", "run", "test", "check", "models", "fmt", "lint", "layers", "asan", "ubsan", "tsan",
                       "fuzz", "bench", "cov", "install", "uninstall", "dist", "deps", "clean", "help"}
