"""The page at / in a browser, on a real server: with a small model made here, and with the demonstration models."""
import io
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from onnx import TensorProto as T
from PIL import Image

sys.path[:0] = [str(pathlib.Path(__file__).parents[2] / "http"), str(pathlib.Path(__file__).parents[1] / "tasks")]
import served  # noqa: E402
import test_decoders  # noqa: E402

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = "/usr/bin/chromium"
if not os.path.exists(CHROMIUM):
    pytest.skip("Debian's chromium is not installed: tools/deps.sh test", allow_module_level=True)
playwright.expect.set_options(timeout=30000)  # milliseconds; an answer comes late on a busy machine


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


SIDE = 128


def constant(folder, name, outputs, **card):
    """A model that says the same of each picture."""
    (folder / name).mkdir()
    test_decoders.save_model(folder / name, {k: np.asarray(v, np.float32) for k, v in outputs.items()}, side=SIDE)
    (folder / name / "model.json").write_text(json.dumps({"preprocess": {"fit": "stretch", "rescale": 1 / 255}, **card}))


@pytest.fixture(scope="module")
def kinds(onnxd, tmp_path_factory):
    """A server of a small model for each kind of answer that is drawn."""
    folder = tmp_path_factory.mktemp("kinds")
    halves = np.full((1, 2, 16, 16), -8.0)
    halves[0, 0, :, :8] = halves[0, 1, :, 8:] = 8
    constant(folder, "panoptic", {"c": [[[6, 0, 0], [6, 0, 0]]], "m": halves}, task="segment", decoder="maskformer-panoptic", labels=["cat", "dog"])
    points = np.stack([np.linspace(30, 100, 17), 64 + 30 * np.sin(np.arange(17)), np.full(17, 0.9)], -1)
    row = np.array([64, 64, 90, 80, 0.9, *points.ravel()])
    rows = np.zeros((64, len(row)))
    rows[0] = row
    constant(folder, "pose", {"y": rows.T[None]}, task="detect", decoder="yolov8-pose", labels=["person"], parameters={"keypoints": [17, 3]})
    turned = np.zeros((16, 6))
    turned[0] = [64, 64, 80, 20, 0.8, np.pi / 4]
    constant(folder, "turned", {"y": turned.T[None]}, task="detect", decoder="yolov8-obb", labels=["ship"])
    constant(folder, "depth", {"y": np.arange(256).reshape(1, 16, 16)}, task="image", decoder="depth")
    heights = np.zeros((1, 3, 16, 16))
    heights[0, 0, 2, 4], heights[0, 1, 8, 8], heights[0, 2, 13, 11] = 0.9, 0.5, 3
    constant(folder, "joints", {"y": heights}, task="pose", decoder="heatmap", labels=["head", "hip", "foot"])
    constant(folder, "heads", {"a": [[0, 3, 1]], "b": [[2.0, -2.0]]}, task="classify",
             heads=[{"name": "age", "output": "a", "labels": ["child", "adult", "old"]}, {"name": "worn", "output": "b", "decoder": "sigmoid", "labels": ["hat", "glasses"]}])
    served.save(folder, "colours", served.model([("GlobalAveragePool", ["pixels"], ["m"], {}), ("Flatten", ["m"], ["scores"], {})],
                                                [("pixels", T.FLOAT, ["n", 3, 32, 32])], [("scores", T.FLOAT, ["n", 3])]), served.COLOURS_CARD)
    served.save(folder, "corners", served.model([("GlobalAveragePool", ["pixels"], ["m"], {}), ("Flatten", ["m"], ["scores"], {})],
                                                [("pixels", T.FLOAT, ["n", 3, 32, 32])], [("scores", T.FLOAT, ["n", 3])]),
                {**served.COLOURS_CARD, "crops": 5, "preprocess": {"fit": "crop", "shorter": 64, "width": 32, "height": 32, "rescale": 1 / 255}})
    constant(folder, "vector", {"y": [[1, 2, 3, 4]]}, task="embed")
    served.save(folder, "chain", served.red_finder(), {**served.RED_CARD, "then": [{"model": "colours"}]})
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


# ---- each kind of answer

def scene(width=256, height=256):
    """Soft colours, over which what is drawn can be seen."""
    out, x, y = io.BytesIO(), np.linspace(60, 160, width), np.linspace(60, 160, height)
    Image.fromarray(np.stack(np.broadcast_arrays(x[None], y[:, None], np.full((height, width), 110.0)), -1).astype(np.uint8)).save(out, "PNG")
    return out.getvalue()


def test_segments_of_one_class_have_colours_of_their_own(browser, kinds, root):
    with Page(browser, kinds, "panoptic") as p:
        p.give("scene.png", scene())
        p.status("cat, cat")
        left, right = p.pixel(40, 128), p.pixel(216, 128)
        assert left[3] > 0 and right[3] > 0 and left[:3] != right[:3]
        p.page.locator("#list .hit").first.click()
        assert p.pixel(40, 128)[3] != p.pixel(216, 128)[3]  # the chosen one is stronger
        p.shot(root, "panoptic")
        p.page.click("#explain")
        playwright.expect(p.page.locator("#explain-text")).to_contain_text("“cat”")


def test_keypoints_are_drawn_at_their_places(browser, kinds, root):
    with Page(browser, kinds, "pose") as p:
        p.give("scene.png", scene())
        p.status("1 × person")
        for k in (0, 8, 16):
            x, y = 2 * np.linspace(30, 100, 17)[k], 2 * (64 + 30 * np.sin(k))
            assert p.pixel(round(x), round(y))[3] > 0
        p.slide("score", 0.95)
        p.status("Nothing above")
        assert p.drawn() == 0 and p.predictions() == 1
        p.slide("score", 0.5)
        p.shot(root, "pose")
        p.page.click("#explain")
        playwright.expect(p.page.locator("#explain-text")).to_contain_text("“person”")


def test_the_points_of_one_thing_are_drawn_and_listed(browser, kinds, root):
    with Page(browser, kinds, "joints") as p:
        p.give("scene.png", scene())
        p.status("3 keypoints")
        assert p.labels() == ["head", "hip", "foot"]
        assert p.page.locator("#list .hit span").all_inner_texts() == ["90 %", "50 %", "3"]  # no share: its height
        points = p.page.evaluate("state.answer.keypoints.map(k => k.point)")
        for (x, y), cell in zip(points, [(4, 2), (8, 8), (11, 13)]):
            assert max(abs(x / 16 - cell[0] - 0.5), abs(y / 16 - cell[1] - 0.5)) <= 0.75
            assert p.pixel(round(x), round(y))[3] > 0
        before = p.drawn()
        p.page.locator("#list .hit").first.click()
        assert p.drawn() > before
        p.shot(root, "joints")


def test_turned_boxes_are_drawn_along_their_edges(browser, kinds, root):
    with Page(browser, kinds, "turned") as p:
        p.give("scene.png", scene())
        p.status("1 × ship")
        middle = np.array([128, 128]) + 20 * np.array([np.sin(np.pi / 4), -np.cos(np.pi / 4)])  # of a long edge
        assert p.pixel(*(round(v) for v in middle))[3] > 0
        assert p.pixel(190, 66)[3] == 0  # a corner of the upright box around it
        p.shot(root, "turned")


def test_a_map_of_depth_is_shown_at_the_pictures_size(browser, kinds, root):
    with Page(browser, kinds, "depth") as p:
        p.give("scene.png", scene())
        p.status("256 × 256")
        assert p.page.evaluate("document.querySelector('#list img').naturalWidth") == 256
        p.shot(root, "depth")
        p.give("wide.png", scene(1200, 300))
        p.status("1200 × 300")
        p.page.wait_for_function("document.querySelector('#list img').complete")
        assert p.page.evaluate("document.querySelector('#list').scrollWidth - document.querySelector('#list').clientWidth") <= 0
        p.shot(root, "depth_wide")


def test_heads_and_chained_models_are_told(browser, kinds, root):
    with Page(browser, kinds, "heads") as p:
        p.give("scene.png", scene())
        p.status("age: adult, worn: hat")
        assert p.labels() == ["adult", "old", "child", "hat", "glasses"]
        p.shot(root, "heads")
        p.page.locator("#list .hit", has_text="glasses").click()
        p.page.click("#explain")
        playwright.expect(p.page.locator("#explain-text")).to_contain_text("“glasses”")
        p.page.select_option("#model", "chain")
        p.give("colours.png", served.coloured_picture())
        p.status("2 × red, 1 × blue")
        details = p.page.locator("#list .hit em").all_inner_texts()
        assert details == ["colours: red 2.25", "colours: blue 2.64", "colours: red 93 %"]
        p.shot(root, "chain")


def test_choices_of_a_request_are_where_they_mean_something(browser, kinds, root):
    with Page(browser, kinds, "corners") as p:
        code, asked = p.page.locator("#code"), lambda: [u for u in p.asked if "/predict" in u][-1]
        picture = Image.new("RGB", (64, 64), (0, 0, 200))
        picture.paste((200, 0, 0), (16, 16, 48, 48))
        out = io.BytesIO()
        picture.save(out, "PNG")
        p.give("corners.png", out.getvalue())
        p.status("blue, 47 %")  # corners are blue by three quarters, the centre is red
        assert p.page.locator("#crops").input_value() == "5" and "crops" not in asked()
        p.page.select_option("#crops", "1")
        p.status("red, 78 %")
        assert "crops=1" in asked()
        playwright.expect(code).to_contain_text("crops=1")
        p.shot(root, "crops")
        for other in ("#soft", "#agnostic", "#format"):
            playwright.expect(p.page.locator(other)).to_be_hidden()
        p.page.select_option("#model", "vector")
        p.status("A vector of 4 numbers")
        playwright.expect(p.page.locator("#crops")).to_be_hidden()
        p.page.select_option("#format", "base64")
        playwright.expect(code).to_contain_text("format=base64")
        p.page.select_option("#model", "depth")
        p.status("64 × 64")
        playwright.expect(code).not_to_contain_text("format")
        p.page.select_option("#format", "floats")
        playwright.expect(code).to_contain_text("format=floats")
        p.shot(root, "depth_numbers")
        p.page.select_option("#model", "chain")
        p.page.check("#soft")
        playwright.expect(code).to_contain_text("soft_nms=0.5")
        p.page.check("#agnostic")
        playwright.expect(code).to_contain_text("class_agnostic=1")
        playwright.expect(p.page.locator("#status")).not_to_contain_text("Asking")
        assert "soft_nms=0.5" in asked() and "class_agnostic=1" in asked()
        p.shot(root, "boxes_choices")


def test_a_box_is_explained(browser, kinds, root):
    with Page(browser, kinds, "chain") as p:
        p.give("colours.png", served.coloured_picture())
        p.status("2 × red")
        p.page.locator("#list .hit", has_text="blue").click()
        p.page.click("#explain")
        playwright.expect(p.page.locator("#explain-text")).to_contain_text("“blue”")
        hot = p.page.evaluate("""() => { const c = document.querySelector("#heat"), d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
                                         const heat = i => d[i] + d[i + 1] + d[i + 2];
                                         let at = 0; for (let i = 0; i < d.length; i += 4) if (heat(i) > heat(at)) at = i;
                                         return [at / 4 % c.width / c.width, Math.floor(at / 4 / c.width) / c.height]; }""")
        assert abs(hot[0] - 20 / 64) < 0.1 and abs(hot[1] - 44 / 64) < 0.1
        p.shot(root, "why_box")
        p.page.click("#explain")
        playwright.expect(p.page.locator("#heat")).to_be_hidden()


def test_names_can_be_read_on_each_colour(browser, kinds):
    def luminance(c):
        c = np.asarray(c) / 255
        return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]
    with Page(browser, kinds, "pose") as p:
        for colour, ink in p.page.evaluate("[...Array(200).keys()].map(i => [rgb(i), inkOn(i)])"):
            one, other = luminance(colour), {"#000": 0, "#fff": 1}[ink]
            assert (max(one, other) + 0.05) / (min(one, other) + 0.05) >= 4.5, (colour, ink)


@pytest.mark.parametrize("model", ["panoptic", "pose", "joints", "turned", "depth", "heads", "chain", "corners", "vector"])
def test_a_phone_shows_each_kind(browser, kinds, root, model):
    with Page(browser, kinds, model, width=360, height=740, is_mobile=True, has_touch=True) as p:
        p.give("scene.png", scene())
        playwright.expect(p.page.locator("#status")).not_to_contain_text("Asking")
        playwright.expect(p.page.locator("#timing")).to_be_visible()
        assert p.overflow() <= 0
        p.shot(root, f"phone_{model}")


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
        playwright.expect(rate).to_have_attribute("aria-label", __import__("re").compile(r"Requests answered: ([1-9]|0\.0*[1-9])"))
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
        playwright.expect(p.page.locator("#explain-text")).to_contain_text("trolleybus")
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
        playwright.expect(p.page.locator("#profile-operators")).to_contain_text("Conv")
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
