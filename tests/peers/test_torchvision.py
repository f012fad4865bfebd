"""torchvision: bare exports to ONNX, its own presets for pictures."""
import json

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torchvision.models import detection, get_model, segmentation
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.transforms import Compose, ConvertImageDtype, FiveCrop, InterpolationMode, Normalize, PILToTensor, Resize, TenCrop
from torchvision.transforms._presets import ImageClassification, SemanticSegmentation
from torchvision.transforms.functional import to_tensor

from peers import REPORT, answers, card, clipped, same_classes, same_detections, same_masks, same_segmentation
from weights import Picked, calibrate_norms, spread_layers, spread_logits


def opened(pictures):
    return [Image.open(p).convert("RGB") for p in pictures]


# ---- classifiers -------------------------------------------------------------------------------

def exported(model, transform, pictures, folder):
    batch = torch.stack([transform(im) for im in opened(pictures)])
    calibrate_norms(model, batch)
    spread_logits(model, model, batch)
    path = folder / "model.onnx"
    torch.onnx.export(model, (batch[:1],), path, dynamo=False, input_names=["input"], output_names=["output"])
    with torch.no_grad():
        return path, [model(x[None])[0].softmax(0).numpy() for x in batch]


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
def test_classes(onnxd, pictures, tmp_path, name):
    torch.manual_seed(2)
    transform = ImageClassification(crop_size=224, resize_size=256, interpolation=InterpolationMode.BILINEAR)
    path, want = exported(get_model(name, num_classes=40), transform, pictures, tmp_path)
    for said, scores in zip(answers(onnxd, path, pictures), want):
        same_classes(f"torchvision {name}", said, scores)


PRESETS = {name: torchvision.models.get_model_weights(name)["IMAGENET1K_V1"].transforms
           for name in ("efficientnet_b0", "efficientnet_b1", "efficientnet_v2_s", "vit_b_16", "swin_t", "convnext_tiny")}
PRESETS["resnet50, second weights"] = torchvision.models.ResNet50_Weights.IMAGENET1K_V2.transforms


@pytest.mark.parametrize("name", PRESETS)
def test_presets_that_a_graph_cannot_tell(onnxd, pictures, tmp_path, name):
    """The card that was guessed shows what to change, and what is changed holds."""
    torch.manual_seed(2)
    transform = PRESETS[name]()
    path, want = exported(get_model("resnet18", num_classes=40), transform, pictures, tmp_path)
    shown = card(onnxd, path)
    steps = shown["preprocess"]
    assert steps["fit"] == "crop" and steps["width"] == transform.crop_size[0] and steps["filter"] == "bilinear"
    steps.update(shorter=transform.resize_size[0], filter=transform.interpolation.value)
    (tmp_path / "model.json").write_text(json.dumps(shown))
    for said, scores in zip(answers(onnxd, path, pictures), want):
        same_classes(f"torchvision presets, {name}", said, scores)


@pytest.mark.parametrize("crops, cut, mean, batch", [(5, FiveCrop, "scores", "one"), (5, FiveCrop, "outputs", "free"),
                                                     (10, TenCrop, "scores", "free"), (10, TenCrop, "outputs", "one")])
def test_crops(onnxd, pictures, tmp_path, crops, cut, mean, batch):
    """The preset's steps but for its last cut. The margins are odd, so that the centre of the mirror image is another one."""
    torch.manual_seed(2)
    transform = ImageClassification(crop_size=224, resize_size=257)
    model = get_model("resnet18", num_classes=40)
    path, _ = exported(model, transform, pictures, tmp_path)
    if batch == "free":
        torch.onnx.export(model, (torch.zeros(1, 3, 224, 224),), path, dynamo=False, input_names=["input"], output_names=["output"],
                          dynamic_axes={"input": {0: "n"}, "output": {0: "n"}})
    steps = {"colors": "rgb", "fit": "crop", "shorter": 257, "width": 224, "height": 224, "rescale": 1 / 255, "mean": list(transform.mean), "std": list(transform.std)}
    (tmp_path / "model.json").write_text(json.dumps({"task": "classify", "decoder": "softmax", "preprocess": steps, "crops": crops, "crop_mean": mean}))
    whole = Compose([Resize(257), PILToTensor(), ConvertImageDtype(torch.float), Normalize(transform.mean, transform.std), cut(224), torch.stack])
    alone = answers(onnxd, path, pictures, "--crops", 1)
    for im, said, one in zip(opened(pictures), answers(onnxd, path, pictures), alone):
        with torch.no_grad():
            out = model(whole(im))
        same_classes(f"torchvision {cut.__name__}, mean of {mean}", said, (out.softmax(1).mean(0) if mean == "scores" else out.mean(0).softmax(0)).numpy())
        with torch.no_grad():
            same_classes("torchvision one crop of them", one, model(transform(im)[None])[0].softmax(0).numpy())


# ---- maps --------------------------------------------------------------------------------------

def small_fcn(classes):
    """Its own builder has ResNet-50 and wider heads."""
    body = IntermediateLayerGetter(torchvision.models.resnet18(weights=None), {"layer4": "out", "layer3": "aux"})
    return segmentation.FCN(body, segmentation.fcn.FCNHead(512, classes), segmentation.fcn.FCNHead(256, classes))


MAPS = {  # the network, and the layers whose sum is its logits
    "fcn": (small_fcn, lambda net: [net.classifier[-1]]),
    "deeplabv3": (lambda classes: segmentation.deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=classes,
                                                                            aux_loss=True),
                  lambda net: [net.classifier[-1]]),
    "lraspp": (lambda classes: segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=classes),
               lambda net: [net.classifier.low_classifier, net.classifier.high_classifier]),
}


@pytest.mark.parametrize("name", MAPS)
def test_maps(onnxd, pictures, tmp_path, name):
    """Exports give the dictionary's maps. Where the two best classes lie within 0.002 of the span of all logits, rounding of the
    picture's levels decides between them: those pixels, a tenth at most, are left out."""
    torch.manual_seed(2)
    make, last = MAPS[name]
    model = make(4)
    transform = SemanticSegmentation(resize_size=520)
    batch = [transform(im) for im in opened(pictures)]
    calibrate_norms(model, torch.stack([torch.nn.functional.interpolate(x[None], (256, 256))[0] for x in batch]))
    spread_layers(last(model), lambda: [model(x[None]) for x in batch[1:2]])
    path = tmp_path / "model.onnx"
    names = ["out", "aux"] if name != "lraspp" else ["out"]
    torch.onnx.export(Picked(model, lambda net, x: tuple(net(x)[k] for k in names)), (batch[0][None],), path, dynamo=False,
                      input_names=["input"], output_names=names, dynamic_axes={"input": {2: "h", 3: "w"}})
    for im, x, said in zip(opened(pictures), batch, answers(onnxd, path, pictures)):
        with torch.no_grad():
            out = torch.nn.functional.interpolate(model(x[None])["out"], im.size[::-1], mode="bilinear", align_corners=False)[0]
        best, second = out.topk(2, dim=0).values
        clear = (best - second > 0.002 * (out.max() - out.min())).numpy()
        assert clear.mean() > 0.9
        same_segmentation(f"torchvision {name}", said, out.argmax(0).numpy(), clear)


# ---- detectors ---------------------------------------------------------------------------------

SMALL = {"weights": None, "weights_backbone": None, "num_classes": 8}
SHORT = {"min_size": 256, "max_size": 320}


def small_rcnn(kind, **how):
    """A region network on a small backbone; its own builders have ResNet-50."""
    backbone = detection.backbone_utils._mobilenet_extractor(torchvision.models.mobilenet_v3_large(weights=None), True, 6)
    anchors = detection.anchor_utils.AnchorGenerator(((32, 64, 128, 256),) * 3, ((0.5, 1.0, 2.0),) * 3)
    return kind(backbone, rpn_anchor_generator=anchors, rpn_post_nms_top_n_test=200, **SHORT, **how)


DETECTORS = {
    "ssdlite320": lambda: detection.ssdlite320_mobilenet_v3_large(**SMALL),
    "ssd300": lambda: detection.ssd300_vgg16(**SMALL),
    "retinanet": lambda: detection.retinanet_resnet50_fpn(**SMALL, **SHORT),
    "fcos": lambda: detection.fcos_resnet50_fpn(**SMALL, **SHORT),
    "fasterrcnn": lambda: detection.fasterrcnn_mobilenet_v3_large_320_fpn(**SMALL),
    "maskrcnn": lambda: small_rcnn(detection.MaskRCNN, num_classes=8, box_detections_per_img=12),
    "keypointrcnn": lambda: small_rcnn(detection.KeypointRCNN, num_classes=2, num_keypoints=5, box_detections_per_img=12),
}


def spread_detector(model, pictures):
    """Some boxes of each picture pass the threshold, with scores from there to nearly one."""
    def run():
        for x in pictures:
            model([x])

    calibrate_norms(model.backbone, model.transform(pictures)[0].tensors)
    if hasattr(model, "rpn"):
        spread_layers([model.rpn.head.cls_logits], run)
        box = model.roi_heads.box_predictor
        spread_layers([box.cls_score], run)
        with torch.no_grad():
            box.cls_score.bias[0] += 1  # class 0 is nothing
        for part in ("mask_predictor", "keypoint_predictor"):
            if head := getattr(model.roi_heads, part, None):
                spread_layers([m for m in head.modules() if isinstance(m, (torch.nn.Conv2d, torch.nn.ConvTranspose2d))][-1:], run, top=None)
    else:
        head = model.head.classification_head
        centred = hasattr(model.head.regression_head, "bbox_ctrness")
        if hasattr(head, "cls_logits"):  # sigmoids; centreness lowers the scores
            spread_layers([head.cls_logits], run, deviation=1.2, top=2.0 if centred else 0.5, above=1e-4)
        else:
            last = [m if isinstance(m, torch.nn.Conv2d) else m[-1] for m in head.module_list]
            spread_layers(last, run, top=4.0)
            with torch.no_grad():
                for m in last:
                    m.bias[::8] += 4.5  # class 0 is nothing
        if centred:
            spread_layers([model.head.regression_head.bbox_ctrness], run)


def export_detector(model, picture, folder, names=True):
    with torch.no_grad():
        keys = list(model([picture])[0])
    path = folder / "model.onnx"
    how = {"output_names": keys} if names else {}
    torch.onnx.export(model, ([picture],), path, dynamo=False, input_names=["image"], dynamic_axes={"image": {1: "h", 2: "w"}},
                      opset_version=17, **how)
    return path


def found(model, x, im, threshold):
    with torch.no_grad():
        out = {k: v.numpy() for k, v in model([x])[0].items()}
    want = []
    for i in np.flatnonzero(out["scores"] > threshold):
        w = {"label": int(out["labels"][i]), "score": float(out["scores"][i]), "box": clipped(out["boxes"][i].tolist(), *im.size)}
        if "masks" in out:
            w["mask"] = out["masks"][i, 0] > 0.5
        if "keypoints" in out:
            w["points"] = out["keypoints"][i]
        want.append(w)
    return want


# ---- heads without what decodes them --------------------------------------------------------------

def small_retinanet():
    body = detection.backbone_utils.resnet_fpn_backbone(backbone_name="resnet18", weights=None, returned_layers=[2, 3, 4],
                                                        extra_blocks=torchvision.ops.feature_pyramid_network.LastLevelP6P7(256, 256))
    return detection.RetinaNet(body, 8, anchor_generator=detection.retinanet._default_anchorgen(), score_thresh=0.3, min_size=256, max_size=256)


SIZES_300 = [21, 45, 99, 153, 207, 261, 315]
RAW = {  # the network, its input's side, and what a card says of its anchors
    "retinanet": (small_retinanet, 256, {"decoder": "retinanet", "iou_threshold": 0.5, "max_detections": 300}),
    "retinanet, maps": (small_retinanet, 256, {"decoder": "retinanet", "iou_threshold": 0.5, "max_detections": 300}),
    "ssd300": (lambda: detection.ssd300_vgg16(**SMALL, score_thresh=0.3), 300,
               {"decoder": "ssd", "max_detections": 200,
                "parameters": {"default_boxes": 1, "strides": [8, 16, 32, 64, 100, 300], "sizes": SIZES_300, "ratios": [2, 2, 3, 2, 3, 2, 3, 2, 2],
                               "ratio_counts": [1, 2, 2, 2, 1, 1]}}),
    "ssdlite320": (lambda: detection.ssdlite320_mobilenet_v3_large(**SMALL, score_thresh=0.3), 320,
                   {"decoder": "ssd", "iou_threshold": 0.55, "max_detections": 300,
                    "parameters": {"default_boxes": 1, "strides": [16, 32, 64, 320 / 3, 160, 320], "sizes": [64, 112, 160, 208, 256, 304, 320],
                                   "ratios": [2, 3] * 6, "ratio_counts": [2] * 6}}),
}


def raw_outputs(model, x, maps=False):
    features = list(model.backbone(x).values())
    out = model.head(features)
    d, logits = out["bbox_regression"], out["cls_logits"]
    if not maps:
        return d, logits
    cells = [f.shape[2:] for f in features]
    each = d.shape[1] // sum(h * w for h, w in cells)
    parts = [v.split([h * w * each for h, w in cells], 1) for v in (d, logits)]
    return tuple(v.reshape(1, *c, each, -1).permute(0, 3, 4, 1, 2).flatten(1, 2) for part in parts for v, c in zip(part, cells))


def decoded_by(model, x):
    """torchvision's steps behind the head, with the anchors of its own generator."""
    with torch.no_grad():
        features = list(model.backbone(x).values())
        out = model.head(features)
        size = tuple(x.shape[2:])
        anchors = model.anchor_generator(detection.image_list.ImageList(x, [size]), features)
        if isinstance(model, detection.RetinaNet):
            cells = [f.shape[2] * f.shape[3] for f in features]
            counts = [n * (out["cls_logits"].shape[1] // sum(cells)) for n in cells]
            out = {k: list(v.split(counts, 1)) for k, v in out.items()}
            anchors = [list(a.split(counts)) for a in anchors]
        return model.postprocess_detections(out, anchors, [size])[0]


@pytest.mark.parametrize("name", RAW)
def test_raw_heads(onnxd, pictures, tmp_path, name):
    """On pictures that have the input's size: how they get it is shown by the classifiers, and levels that differ by one move the
    scores of such deep random networks by hundredths."""
    torch.manual_seed(4)
    model, side, keys = RAW[name][0]().eval(), RAW[name][1], RAW[name][2]
    mean, std = torch.tensor(model.transform.image_mean)[:, None, None], torch.tensor(model.transform.image_std)[:, None, None]
    files = [tmp_path / f"{i}.png" for i in range(len(pictures))]
    for im, file in zip(opened(pictures), files):
        im.resize((side, side)).save(file)
    batch = [((to_tensor(im) - mean) / std)[None] for im in opened(files)]
    spread_detector(model, [to_tensor(im) for im in opened(files)])
    maps = "maps" in name
    torch.onnx.export(Picked(model, lambda net, x: raw_outputs(net, x, maps)), (batch[0],), tmp_path / "model.onnx", dynamo=False,
                      input_names=["image"], opset_version=17)
    first = 0 if keys["decoder"] == "retinanet" else 1  # the card counts without the class that is nothing
    said_of = {"mean": mean.flatten().tolist(), "std": std.flatten().tolist(), "rescale": 1 / 255, "fit": "stretch"}
    (tmp_path / "model.json").write_text(json.dumps({"task": "detect", "score_threshold": 0.3, "preprocess": said_of, **keys}))
    count = 0
    for x, said in zip(batch, answers(onnxd, tmp_path / "model.onnx", files)):
        out = {k: v.numpy() for k, v in decoded_by(model, x).items()}
        want = [{"label": int(l) - first, "score": float(s), "box": clipped(b.tolist(), side, side)}
                for b, l, s in zip(out["boxes"], out["labels"], out["scores"])]
        count += len(same_detections(f"torchvision {name}, raw head", said, want, 0.3))
    assert count > 20


@pytest.mark.parametrize("name", DETECTORS)
def test_detections(onnxd, pictures, tmp_path, name):
    """Exports take one picture of any size as it is, and resize, normalise and suppress in the graph."""
    torch.manual_seed(4)
    model = DETECTORS[name]().eval()
    images = opened(pictures)
    tensors = [to_tensor(im) for im in images]
    spread_detector(model, tensors)
    path = export_detector(model, tensors[0], tmp_path, names=name != "fasterrcnn")
    count = 0
    for x, im, said in zip(tensors, images, answers(onnxd, path, pictures, "--score-threshold", 0.3, "--max-detections", 300)):
        pairs = same_detections(f"torchvision {name}", said, found(model, x, im, 0.3), 0.3)
        count += len(pairs)
        if name == "maskrcnn":
            same_masks("torchvision maskrcnn", pairs)
        for g, w in pairs if name == "keypointrcnn" else []:
            off = np.abs(np.array(g["keypoints"])[:, :2] - w["points"][:, :2]).max() / max(im.size)
            REPORT.add("torchvision keypointrcnn", other=off)
            assert off < 0.001
    assert count > 20
