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
