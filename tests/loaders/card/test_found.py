"""Cards that nobody wrote: folders as Hugging Face Optimum, timm, Ultralytics and Triton users have them. What the model
gets is compared with the tools' own steps, done here with Pillow and numpy as their documentation describes them."""
import json
import subprocess

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def picture(width=150, height=100):
    rng = np.random.default_rng(3)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def save_model(path, shape, classes=3, output="logits", metadata=None, end=None):
    """Means of the colours, as many times as there are classes."""
    nodes = [helper.make_node("GlobalAveragePool", ["pixel_values"], ["mean"]), helper.make_node("Flatten", ["mean"], ["flat"])]
    names = ["flat"] * (classes // 3)
    nodes.append(helper.make_node("Concat", names, ["all"], axis=1))
    nodes.append(helper.make_node(end or "Identity", ["all"], [output]))
    graph = helper.make_graph(nodes, "means", [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, shape)],
                              [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["n", classes])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    for key, value in (metadata or {}).items():
        model.metadata_props.add(key=key, value=value)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)


def ask(onnxd, model, image, *flags):
    image.save(model.parent / "picture.png")
    done = subprocess.run([onnxd, "predict", model, model.parent / "picture.png", "--json", "--save-input",
                           model.parent / "input.npy", *flags], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), np.load(model.parent / "input.npy")[0].transpose(1, 2, 0)


def card_of(onnxd, model):
    return json.loads(subprocess.run([onnxd, "inspect", model, "--card"], capture_output=True, text=True, check=True).stdout)


def write(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))


def resized(image, width, height, how):
    return image.resize((width, image.height), how).resize((width, height), how)


def near(got, want, levels=1.0, std=STD):
    assert got.shape == want.shape
    assert np.abs(got - want).max() <= levels / 255 / np.min(std) * 1.01


def test_vit_of_optimum(onnxd, tmp_path):
    save_model(tmp_path / "model.onnx", ["batch", "channels", "height", "width"])
    write(tmp_path, config={"architectures": ["ViTForImageClassification"], "id2label": {"0": "cat", "2": "owl", "1": "dog"}},
          preprocessor_config={"do_normalize": True, "do_rescale": True, "do_resize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
                               "image_processor_type": "ViTImageProcessor", "resample": 2, "rescale_factor": 1 / 255,
                               "size": {"height": 224, "width": 224}})
    image = picture()
    said, got = ask(onnxd, tmp_path / "model.onnx", image)
    near(got, (np.asarray(resized(image, 224, 224, Image.BILINEAR)) / 255 - 0.5) / 0.5, std=0.5)
    assert {c["label"] for c in said["classes"]} == {"cat", "dog", "owl"}
    assert abs(sum(c["score"] for c in said["classes"]) - 1) < 1e-5


def test_shorter_side_and_crop_of_optimum(onnxd, tmp_path):
    # onnx/model.onnx with its configuration in the folder above
    save_model(tmp_path / "onnx" / "model.onnx", ["batch", 3, "height", "width"])
    write(tmp_path, config={"architectures": ["ResNetForImageClassification"], "problem_type": "multi_label_classification",
                            "id2label": {"0": "a", "1": "b", "2": "c"}},
          preprocessor_config={"do_center_crop": True, "crop_size": {"height": 64, "width": 64}, "do_normalize": True, "do_resize": True,
                               "image_mean": MEAN.tolist(), "image_std": STD.tolist(), "resample": 3, "size": {"shortest_edge": 73}})
    image = picture()
    said, got = ask(onnxd, tmp_path / "onnx" / "model.onnx", image, "--score-threshold", "0")
    width, height = int(73 * 150 / 100), 73
    left, top = (width - 64) // 2, (height - 64) // 2
    near(got, (np.asarray(resized(image, width, height, Image.BICUBIC).crop((left, top, left + 64, top + 64))) / 255 - MEAN) / STD)
    mean = {"abc".index(c["label"]): c["score"] for c in said["classes"]}
    assert all(abs(mean[c] - 1 / (1 + np.exp(-got[..., c].mean()))) < 1e-3 for c in range(3))


def test_convnext_crop_share_of_optimum(onnxd, tmp_path):
    save_model(tmp_path / "model.onnx", ["batch", 3, 64, 64])
    write(tmp_path, config={"architectures": ["ConvNextForImageClassification"]},
          preprocessor_config={"crop_pct": 0.875, "do_normalize": True, "do_resize": True, "image_mean": MEAN.tolist(),
                               "image_std": STD.tolist(), "resample": 3, "size": {"shortest_edge": 64}})
    image = picture()
    _, got = ask(onnxd, tmp_path / "model.onnx", image)
    width, height = int(73 * 150 / 100), 73
    left, top = (width - 64) // 2, (height - 64) // 2
    near(got, (np.asarray(resized(image, width, height, Image.BICUBIC).crop((left, top, left + 64, top + 64))) / 255 - MEAN) / STD)


@pytest.mark.parametrize("mode", ["center", "squash"])
def test_timm(onnxd, tmp_path, mode):
    save_model(tmp_path / "model.onnx", ["batch", 3, 64, 64])
    write(tmp_path, config={"architecture": "resnet10t", "num_classes": 3, "label_names": ["n01", "n02", "n03"],
                            "label_descriptions": {"n01": "cat, house cat", "n02": "dog", "n03": "owl"},
                            "pretrained_cfg": {"input_size": [3, 64, 64], "interpolation": "bicubic", "crop_pct": 0.9,
                                               "crop_mode": mode, "mean": MEAN.tolist(), "std": STD.tolist()}})
    image = picture()
    said, got = ask(onnxd, tmp_path / "model.onnx", image)
    width, height = (int(71 * 150 / 100), 71) if mode == "center" else (71, 71)
    left, top = round((width - 64) / 2), round((height - 64) / 2)
    near(got, (np.asarray(resized(image, width, height, Image.BICUBIC).crop((left, top, left + 64, top + 64))) / 255 - MEAN) / STD)
    assert "cat, house cat" in {c["label"] for c in said["classes"]}


def test_detr_of_optimum_keeps_proportions(onnxd, tmp_path):
    values = [onnx.numpy_helper.from_array(np.zeros((1, 5, 3), np.float32), "l"),
              onnx.numpy_helper.from_array(np.full((1, 5, 4), 0.5, np.float32), "b")]
    graph = helper.make_graph([helper.make_node("Identity", ["l"], ["logits"]), helper.make_node("Identity", ["b"], ["pred_boxes"])], "detr",
                              [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["n", 3, "h", "w"]),
                               helper.make_tensor_value_info("pixel_mask", TensorProto.INT64, ["n", "h", "w"])],
                              [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 5, 3]),
                               helper.make_tensor_value_info("pred_boxes", TensorProto.FLOAT, [1, 5, 4])], values)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "model.onnx")
    write(tmp_path, config={"architectures": ["DetrForObjectDetection"], "id2label": {"0": "a", "1": "b"}},
          preprocessor_config={"do_normalize": True, "do_resize": True, "feature_extractor_type": "DetrFeatureExtractor",
                               "image_mean": MEAN.tolist(), "image_std": STD.tolist(), "max_size": 120, "size": 90})
    image = picture()
    said, got = ask(onnxd, tmp_path / "model.onnx", image, "--score-threshold", "0.2")
    assert got.shape == (80, 120, 3)
    near(got, (np.asarray(resized(image, 120, 80, Image.BILINEAR)) / 255 - MEAN) / STD)
    assert said["detections"][0]["box"] == [37.5, 25, 75, 50]


def test_ultralytics_letterbox(onnxd, tmp_path):
    meta = {"task": "detect", "names": "{0: 'a', 1: 'b'}", "stride": "32", "imgsz": "[96, 96]"}
    heads = onnx.numpy_helper.from_array(np.zeros((1, 6, 189), np.float32), "h")
    graph = helper.make_graph([helper.make_node("Identity", ["h"], ["output0"])], "yolo",
                              [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 96, 96])],
                              [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 6, 189])], [heads])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    for key, value in meta.items():
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, tmp_path / "model.onnx")
    _, got = ask(onnxd, tmp_path / "model.onnx", Image.fromarray(np.full((100, 150, 3), 51, np.uint8)))
    assert np.allclose(got[16:80], 0.2, atol=1e-6)
    assert np.allclose(got[:16], 114 / 255, atol=1e-6) and np.allclose(got[80:], 114 / 255, atol=1e-6)
    card = card_of(onnxd, tmp_path / "model.onnx")
    assert card["decoder"] == "yolov8" and card["iou_threshold"] == 0.7 and card["labels"] == ["a", "b"]


def test_ultralytics_classifier(onnxd, tmp_path):
    save_model(tmp_path / "model.onnx", [1, 3, 64, 64], metadata={"task": "classify", "names": "{0: 'a', 1: 'b', 2: 'c'}", "stride": "1",
                                                                  "imgsz": "[64, 64]"}, end="Softmax")
    image = picture()
    said, got = ask(onnxd, tmp_path / "model.onnx", image)
    left = round((96 - 64) / 2)
    near(got, np.asarray(resized(image, 96, 64, Image.BILINEAR).crop((left, 0, left + 64, 64))) / 255, std=1)
    assert abs(sum(c["score"] for c in said["classes"]) - 1) < 1e-5


def test_triton_gives_labels_and_batching(onnxd, tmp_path):
    save_model(tmp_path / "1" / "model.onnx", ["n", 3, 64, 64])
    (tmp_path / "labels.txt").write_text("cat\ndog\nowl\n")
    (tmp_path / "config.pbtxt").write_text("""
        name: "means"  # a comment with { a brace
        platform: "onnxruntime_onnx"
        max_batch_size: 8
        input [ { name: "pixel_values" data_type: TYPE_FP32 dims: [ 3, 64, 64 ] } ]
        output [ { name: "logits", data_type: TYPE_FP32, dims: [ 3 ] label_filename: "labels.txt" } ]
        dynamic_batching { max_queue_delay_microseconds: 250 preferred_batch_size: [ 4, 8 ] }""")
    card = card_of(onnxd, tmp_path / "1" / "model.onnx")
    assert card["labels"] == ["cat", "dog", "owl"] and card["task"] == "classify"
    assert card["batching"] == {"max_batch_size": 8, "max_queue_delay_us": 250}
    image = picture()
    _, got = ask(onnxd, tmp_path / "1" / "model.onnx", image)  # and torchvision's way is guessed: 8 / 7 of the side
    left, top = round((int(73 * 1.5) - 64) / 2), round((73 - 64) / 2)
    near(got, (np.asarray(resized(image, int(73 * 1.5), 73, Image.BILINEAR).crop((left, top, left + 64, top + 64))) / 255 - MEAN) / STD)


@pytest.mark.parametrize("name, content", [("config.pbtxt", "input [ {"), ("model.json", '{"task":"classify","labels":["one"]}'),
    ("config.json", json.dumps({"pretrained_cfg": {"input_size": [3, 64, 64], "std": [0.5, 0.5, 0]}}))])
def test_what_contradicts_the_graph_is_refused(onnxd, tmp_path, name, content):
    save_model(tmp_path / "model.onnx", ["n", 3, 64, 64])
    (tmp_path / name).write_text(content)
    done = subprocess.run([onnxd, "inspect", tmp_path / "model.onnx", "--card"], capture_output=True, text=True)
    assert done.returncode == 1 and name in done.stderr


def test_model_json_goes_first(onnxd, tmp_path):
    save_model(tmp_path / "model.onnx", ["n", 3, 64, 64])
    write(tmp_path, config={"architectures": ["ViTForImageClassification"]}, model={"task": "classify", "top_k": 2})
    assert card_of(onnxd, tmp_path / "model.onnx")["top_k"] == 2
