"""The page at / in a browser, on a real server: with a small model made here, and with the demonstration models."""
import json
import os
import pathlib
import subprocess
import sys

import pytest
from onnx import TensorProto as T

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "http"))
import served  # noqa: E402

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = "/usr/bin/chromium"
if not os.path.exists(CHROMIUM):
    pytest.skip("Debian's chromium is not installed: tools/deps.sh test", allow_module_level=True)


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as p:
        b = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield b
        b.close()


@pytest.fixture(scope="module")
def made(onnxd, tmp_path_factory):
    """A server of three small models: a detector, a classifier, and one of tensors."""
    folder = tmp_path_factory.mktemp("page")
    served.save(folder, "reds", served.red_finder(), served.RED_CARD)
    served.save(folder, "colours", served.model([("GlobalAveragePool", ["pixels"], ["m"], {}), ("Flatten", ["m"], ["scores"], {})],
                                                [("pixels", T.FLOAT, ["n", 3, 32, 32])], [("scores", T.FLOAT, ["n", 3])]), served.COLOURS_CARD)
    served.save(folder, "tensors", served.scaled(3.0))
    with served.Server(onnxd, folder) as s:
        yield s


@pytest.fixture(scope="module")
def demo(onnxd, root, tmp_path_factory):
    """A server of the demonstration models."""
    if not (root.parent / "shared/models").is_dir() or not (root.parent / "shared/images").is_dir():
        pytest.skip("../shared with the demonstration models and photographs is not there")
    folder = tmp_path_factory.mktemp("demo")
    subprocess.run([sys.executable, str(root / "tools/make_models.py"), "--source", str(root.parent / "shared/models"), str(folder)],
                   check=True, capture_output=True)
    with served.Server(onnxd, folder) as s:
        yield s


class Page:
    """The page in a browser, which must not complain, nor ask any other origin."""

    def __init__(self, browser, server, model=None, width=1280, height=900, scheme="light", **options):
        self.context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, **options)
        self.page = self.context.new_page()
        self.origin, self.complaints, self.asked = f"http://{server.url}", [], []
        self.expected = []  # statuses of failures that a test provokes
        self.page.on("console", lambda m: m.type in ("error", "warning") and self.complaints.append(m.text))
        self.page.on("pageerror", lambda e: self.complaints.append(str(e)))
        self.page.on("request", lambda r: self.asked.append(r.url))
        self.page.goto(self.origin + "/" + (f"#{model}" if model else ""))
        playwright.expect(self.page.locator("#code")).not_to_be_empty()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.context.close()
        if kind is None:
            complaints = [c for c in self.complaints if not any(f"status of {s}" in c for s in self.expected)]
            assert not complaints
            assert all(u.startswith((self.origin + "/", "blob:" + self.origin, "data:")) for u in self.asked), self.asked

    def give(self, name, data):
        self.page.set_input_files("#file", {"name": name, "mimeType": "image/png" if name.endswith("png") else "image/jpeg", "buffer": data})

    def predictions(self):
        return sum("/predict" in u for u in self.asked)

    def labels(self):
        return self.page.locator("#list .hit b").all_inner_texts()

    def status(self, text):
        playwright.expect(self.page.locator("#status")).to_contain_text(text)

    def drawn(self, selector="#overlay"):
        """How many pixels something was drawn on."""
        return self.page.evaluate("""s => { const c = document.querySelector(s), d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
                                            let n = 0; for (let i = 3; i < d.length; i += 4) n += d[i] > 0; return n; }""", selector)

    def pixel(self, x, y):
        return self.page.evaluate("([x, y]) => [...document.querySelector('#overlay').getContext('2d').getImageData(x, y, 1, 1).data]", [x, y])

    def slide(self, name, value):
        self.page.locator("#" + name).fill(str(value))

    def shot(self, root, name):
        folder = root / "build/screenshots"
        folder.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=folder / f"{name}.png", full_page=True)

    def overflow(self):
        return self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


# ---- the file itself

def test_the_page_is_one_small_text_with_a_policy_and_a_tag_for_each_form(made):
    status, headers, plain = made.ask("GET", "/")
    assert status == 200 and headers["content-type"].startswith("text/html") and "content-encoding" not in headers
    assert "default-src 'none'" in headers["content-security-policy"] and "unsafe" not in headers["content-security-policy"]
    status, packed, data = made.ask("GET", "/", headers={"Accept-Encoding": "gzip, br"})
    assert packed["content-encoding"] == "gzip" and len(data) < 30000
    import gzip
    assert gzip.decompress(data) == plain
    assert packed["etag"] != headers["etag"] and packed["vary"] == headers["vary"] == "Accept-Encoding"
    status, _, data = made.ask("GET", "/", headers={"If-None-Match": headers["etag"]})
    assert (status, data) == (304, b"")
    assert made.ask("GET", "/", headers={"If-None-Match": packed["etag"]})[0] == 200


# ---- the small models

def test_boxes_are_drawn_where_they_are_and_the_threshold_moves_without_a_request(browser, made):
    with Page(browser, made, "reds") as p:
        p.give("colours.png", served.coloured_picture())
        p.status("2 × red, 1 × blue")
        assert p.predictions() == 1
        assert sorted(p.labels()) == ["blue", "red", "red"]
        assert p.pixel(0, 16)[3] > 0 and p.pixel(96, 28)[3] > 0 and p.pixel(200, 100)[3] == 0
        p.slide("score", 0.2)
        p.status("3 × red, 1 × blue")
        p.slide("score", 0.9)
        p.status("1 × red, 1 × blue")
        assert "score_threshold=0.9" in p.page.locator("#code").inner_text()
        assert p.predictions() == 1


def test_the_lines_of_code_give_the_answer_that_the_page_shows(browser, made, tmp_path):
    with Page(browser, made, "reds") as p:
        p.give("colours.png", served.coloured_picture())
        p.status("2 × red")
        (tmp_path / "colours.png").write_bytes(served.coloured_picture())
        curl = p.page.locator("#code").inner_text()
        p.page.get_by_text("Python", exact=True).click()
        python = p.page.locator("#code").inner_text()
        p.page.get_by_text("JavaScript", exact=True).click()
        assert "fetch(" in p.page.locator("#code").inner_text()
    first = json.loads(subprocess.run(["sh", "-c", curl], cwd=tmp_path, capture_output=True, check=True).stdout)
    second = subprocess.run([sys.executable, "-c", python], cwd=tmp_path, capture_output=True, check=True, text=True).stdout
    assert sorted(d["label"] for d in first["detections"]) == ["blue", "red", "red"]
    assert str(first) == second.strip()


def test_everything_can_be_done_by_keyboard(browser, made):
    with Page(browser, made, "colours") as p:
        k = p.page.keyboard
        seen = []
        for _ in range(30):
            k.press("Tab")
            seen.append(p.page.evaluate("document.activeElement.id || document.activeElement.className || document.activeElement.name"))
        for wanted in ("model", "tab-try", "file", "paste", "score", "top", "language", "copy", "code"):
            assert wanted in seen, (wanted, seen)
        p.page.focus("#model")
        k.type("r")
        playwright.expect(p.page.locator("#iou-label")).to_be_visible()
        p.give("colours.png", served.coloured_picture())
        p.status("2 × red")
        p.page.focus("#score")
        for _ in range(15):
            k.press("ArrowRight")
        assert p.page.locator("#score-out").inner_text() == "0.65"
        for _ in range(10):
            k.press("ArrowRight")
        p.status("1 × red, 1 × blue")
        p.page.focus("#list .hit")
        k.press("Enter")
        playwright.expect(p.page.locator("#list .hit").first).to_have_attribute("aria-current", "true")
        p.page.focus("#tab-try")
        k.press("ArrowRight")
        playwright.expect(p.page.locator("#view-model")).to_be_visible()
        assert p.page.evaluate("document.activeElement.id") == "tab-model"


def test_every_control_has_a_name(browser, made):
    with Page(browser, made, "reds") as p:
        p.give("colours.png", served.coloured_picture())
        p.status("red")
        nameless = p.page.evaluate("""[...document.querySelectorAll("button, input, select, textarea, [role=img], [role=tabpanel], [role=region]")].filter(e =>
            !(e.labels && [...e.labels].some(l => l.innerText.trim()) || e.innerText.trim() || e.getAttribute("aria-label") || e.getAttribute("aria-labelledby"))
            && e.getClientRects().length).map(e => e.outerHTML.slice(0, 120))""")
        assert not nameless
        assert "2 × red" in p.page.locator("#overlay").get_attribute("aria-label")


def test_a_model_of_tensors_shows_its_inputs_and_answers_json(browser, made):
    with Page(browser, made, "tensors") as p:
        playwright.expect(p.page.locator("#picture-side")).to_be_hidden()
        p.page.locator("#tensor-in").fill(json.dumps({"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}))
        p.page.click("#tensor-send")
        playwright.expect(p.page.locator("#tensor-out")).to_contain_text("3, 6, 9, 12")
        assert "/v2/models/tensors/infer" in p.page.locator("#code").inner_text()
        p.page.locator("#tensor-in").fill("{")
        p.page.click("#tensor-send")
        playwright.expect(p.page.locator("#error")).to_contain_text("no JSON")


def test_errors_are_the_servers_own_words(browser, made):
    with Page(browser, made, "colours") as p:
        p.give("broken.jpg", b"\xff\xd8\xff\xe0 nothing")
        playwright.expect(p.page.locator("#error")).to_contain_text("no picture that can be shown")
        p.page.evaluate("takePicture(new Blob([new Uint8Array([137, 80, 78, 71])], {type: 'image/png'}), 'short.png')")
        playwright.expect(p.page.locator("#error")).to_contain_text("short.png")
        p.expected = [400, 404, 415, 422]
        p.page.evaluate("state.model = 'absent', state.picture = {blob: new Blob(['x'], {type: 'image/png'}), name: 'x.png', width: 1, height: 1}, predict()")
        playwright.expect(p.page.locator("#error")).to_contain_text("absent")


def test_the_model_view_shows_ports_card_and_profile(browser, made):
    with Page(browser, made, "reds") as p:
        p.page.click("#tab-model")
        playwright.expect(p.page.locator("#ports")).to_contain_text("1 × 3 × 64 × 64")
        playwright.expect(p.page.locator("#card")).to_contain_text('"decoder": "yolov8"')
        playwright.expect(p.page.locator("#figures")).to_contain_text("Parameters")
        p.page.click("#profile")
        playwright.expect(p.page.locator("#profile-operators")).to_contain_text("Conv")


def test_the_live_view_counts_what_is_asked(browser, made):
    with Page(browser, made, "colours") as p:
        p.page.click("#tab-live")
        playwright.expect(p.page.locator("#all-models")).to_contain_text("colours")
        for _ in range(20):
            made.ask("POST", "/v2/models/colours/predict", served.picture(), {"Content-Type": "image/jpeg"})
        rate = p.page.locator("#charts .chart").first
        playwright.expect(rate).to_have_attribute("aria-label", __import__("re").compile(r"Requests answered: ([1-9]|0\.0*[1-9])"), timeout=5000)
        asked = len(p.asked)
        p.page.click("#tab-try")
        p.page.wait_for_timeout(1500)
        assert len(p.asked) <= asked + 1  # nothing is asked while it is not looked at


def test_a_server_with_tokens_is_asked_with_one(browser, made, onnxd, tmp_path):
    served.save(tmp_path / "m", "colours", served.model([("GlobalAveragePool", ["pixels"], ["m"], {}), ("Flatten", ["m"], ["scores"], {})],
                                                        [("pixels", T.FLOAT, ["n", 3, 32, 32])], [("scores", T.FLOAT, ["n", 3])]), served.COLOURS_CARD)
    (tmp_path / "tokens").write_text("page secret-of-the-page\n")
    with served.Server(onnxd, tmp_path / "m", "--tokens", tmp_path / "tokens", ready=False) as s:
        s.wait("/v2/health/ready")
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"http://{s.url}/")
        page.fill("#token", "secret-of-the-page")
        page.keyboard.press("Enter")
        playwright.expect(page.locator("#code")).to_contain_text("$TOKEN")
        page.set_input_files("#file", {"name": "x.jpg", "mimeType": "image/jpeg", "buffer": served.picture()})
        playwright.expect(page.locator("#status")).to_contain_text("red")
        context.close()


def test_a_phone_shows_all_of_it(browser, made, root):
    with Page(browser, made, "reds", width=360, height=740, device_scale_factor=2, is_mobile=True, has_touch=True) as p:
        playwright.expect(p.page.locator("#camera-label")).to_be_visible()
        assert p.page.locator("#camera").get_attribute("capture") == "environment"
        p.give("colours.png", served.coloured_picture())
        p.status("2 × red")
        assert p.overflow() <= 0
        p.shot(root, "phone")
        for view in ("model", "live"):
            p.page.click(f"#tab-{view}")
            p.page.wait_for_timeout(300)
            assert p.overflow() <= 0, view


# ---- the demonstration models

def photograph(root, name):
    return (root.parent / "shared/images" / name).read_bytes()


def test_photographs_get_their_boxes_classes_and_masks(browser, demo, root):
    with Page(browser, demo, "FastestDet") as p:
        p.give("bus.jpg", photograph(root, "bus.jpg"))
        p.status("bus")
        assert p.drawn() > 1000
        p.shot(root, "detector")
        p.page.select_option("#model", "EfficientNet-Lite0")
        p.status("trolleybus")
        assert p.drawn() == 0
        p.shot(root, "classifier")
        p.page.click("#explain")
        playwright.expect(p.page.locator("#explain-text")).to_contain_text("trolleybus", timeout=15000)
        assert p.drawn("#heat") > 1000
        p.shot(root, "why")
        p.page.click("#explain")
        playwright.expect(p.page.locator("#heat")).to_be_hidden()
        p.page.select_option("#model", "SINet")
        p.status("background")
        p.give("portrait.jpg", photograph(root, "portrait.jpg"))
        playwright.expect(p.page.locator("#name")).to_contain_text("portrait.jpg")
        p.status("person 3")
        assert p.drawn() > 10000
        p.shot(root, "segmenter")
    with Page(browser, demo, "RFB-320", scheme="dark") as p:
        p.give("faces.jpg", photograph(root, "faces.jpg"))
        p.status("face")
        p.shot(root, "faces_dark")
        p.page.click("#tab-model")
        p.page.click("#profile")
        playwright.expect(p.page.locator("#profile-operators")).to_contain_text("Conv", timeout=15000)
        p.page.click("#profile-more summary")
        p.shot(root, "model_dark")


def test_the_live_view_of_a_busy_server(browser, demo, root):
    with Page(browser, demo, "EfficientNet-Lite0") as p:
        p.page.click("#tab-live")
        for _ in range(4):
            for _ in range(6):
                demo.ask("POST", "/v2/models/EfficientNet-Lite0/predict", photograph(root, "bus.jpg"), {"Content-Type": "image/jpeg"})
            p.page.wait_for_timeout(700)
        playwright.expect(p.page.locator("#charts")).to_contain_text("median")
        p.shot(root, "live")
