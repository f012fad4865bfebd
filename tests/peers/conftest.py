"""Our answers beside those of the tools that the models come from. See README.md; `make peers` runs this."""
import importlib.util
import os
import pathlib
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
MISSING = importlib.util.find_spec("torch") is None
collect_ignore_glob = ["test_*.py"] if MISSING else []  # the other tests' environment has none of the tools

if not MISSING:
    sys.path.insert(0, str(HERE))
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    os.environ.setdefault("YOLO_OFFLINE", "true")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny networks: threads only wait for each other
    import vision_ops
    vision_ops.install()


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """Five files: three photographs that come with the tools, and two drawings of awkward sizes."""
    import matplotlib
    import numpy as np
    import ultralytics
    from PIL import Image, ImageDraw, ImageFilter
    folder = tmp_path_factory.mktemp("pictures")
    assets = pathlib.Path(ultralytics.__file__).parent / "assets"
    photographs = [assets / "bus.jpg", assets / "zidane.jpg",
                   pathlib.Path(matplotlib.__file__).parent / "mpl-data" / "sample_data" / "grace_hopper.jpg"]
    drawn = []
    for seed, size in ((1, (333, 501)), (2, (641, 427))):
        rng = np.random.default_rng(seed)
        image = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)).resize(size, Image.BICUBIC)
        draw = ImageDraw.Draw(image)
        for _ in range(12):
            x, y, w, h = rng.uniform(0, 0.8, 2).tolist() + rng.uniform(0.05, 0.4, 2).tolist()
            draw.ellipse([x * size[0], y * size[1], (x + w) * size[0], (y + h) * size[1]], fill=tuple(rng.integers(0, 256, 3).tolist()))
        path = folder / f"drawn{seed}.png"
        image.filter(ImageFilter.GaussianBlur(1)).save(path)
        drawn.append(path)
    return photographs + drawn


def pytest_terminal_summary(terminalreporter):
    if MISSING:
        return
    from peers import REPORT
    if not REPORT.rows:
        return
    terminalreporter.write_line("\n| family | answers | scores differ by | boxes overlap by | masks overlap by | other |\n|---|---|---|---|---|---|")
    for family, row in REPORT.rows.items():
        shown = [f"{row[k]:.2g}" if k in ("score", "other") else f"{row[k]:.4f}" if row[k] is not None else "" for k in ()]
        shown = ["" if row["score"] is None else f"{row['score']:.1e}", "" if row["box"] is None else f"{row['box']:.4f}",
                 "" if row["mask"] is None else f"{row['mask']:.4f}", "" if row["other"] is None else f"{row['other']:.1e}"]
        terminalreporter.write_line(f"| {family} | {row['found']} | " + " | ".join(shown) + " |")
