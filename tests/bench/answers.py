"""What the demonstration models say of the photographs, by `onnxd predict`, beside what their authors' pipelines give
with ONNX Runtime and Pillow (../shared/models/README.md). Prints a Markdown table; exit code 1 when a score is off by
more than 0.02, a box has an IoU below 0.95, or a mask's share is off by more than 0.01.

    python3 tests/bench/answers.py [--onnxd build/onnxd] [--models demo] [--images DIR]"""
import argparse
import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent

# model, photograph, (label, score, corners) of each detection that is known, or the person's share
DETECTIONS = [
    ("FastestDet", "bus", [("bus", 0.962, (44.4, 81.7, 583.5, 415.7))]),
    ("FastestDet", "people", [("person", 0.899, (41.0, 62.6, 178.1, 293.9)), ("person", 0.895, (289.1, 141.9, 484.5, 296.2)),
                              ("person", 0.790, (158.9, 136.8, 256.7, 262.4)), ("person", 0.785, (230.1, 138.8, 323.7, 276.6))]),
    ("RFB-320", "faces", [("face", 1.0, (605.3, 216.7, 677.3, 305.8))]),
]
SHARE = ("SINet", "portrait", 0.353)
CLASSES = ("EfficientNet-Lite0", "bus")


def iou(box, corners):
    x, y, w, h = box
    left, top, right, bottom = corners
    both = max(0, min(x + w, right) - max(x, left)) * max(0, min(y + h, bottom) - max(y, top))
    return both / (w * h + (right - left) * (bottom - top) - both)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--onnxd", default=str(ROOT / "build" / "onnxd"))
    parser.add_argument("--models", default=ROOT / "demo", type=pathlib.Path)
    parser.add_argument("--images", default=ROOT.parent / "shared" / "images", type=pathlib.Path)
    args = parser.parse_args()
    bad = 0

    def ask(model, image):
        done = subprocess.run([args.onnxd, "predict", "--json", args.models / model, args.images / f"{image}.jpg"],
                              capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr)
        return json.loads(done.stdout)

    def line(fine, *cells):
        nonlocal bad
        bad += not fine
        print("| " + " | ".join(cells) + (" |" if fine else " | **off** |"))

    print("| model | photograph | onnxd | reference | difference |\n|---|---|---|---|---|")
    for model, image, known in DETECTIONS:
        found = ask(model, image)["detections"]
        for d, (label, score, corners) in zip(found, known):
            overlap = iou(d["box"], corners)
            line(d["label"] == label and abs(d["score"] - score) <= 0.02 and overlap >= 0.95, model, image,
                 f"{d['label']} {d['score']:.4f} {d['box']}", f"{label} {score:.3f}",
                 f"score {d['score'] - score:+.4f}, IoU {overlap:.4f}")
        if len(found) != len(known):
            line(len(found) > len(known), model, image, f"{len(found)} in all", f"{len(known)} listed", "")
    model, image, share = SHARE
    got = next(c["share"] for c in ask(model, image)["segmentation"]["classes"] if c["label"] == "person")
    line(abs(got - share) <= 0.01, model, image, f"person {100 * got:.2f} %", f"{100 * share:.1f} %", f"{100 * (got - share):+.2f} %")
    model, image = CLASSES
    if (args.models / model).is_dir():
        first = ask(model, image)["classes"][0]
        line(True, model, image, f"{first['label']} {first['score']:.4f}", "held by tests/server/test_predict.py", "")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
