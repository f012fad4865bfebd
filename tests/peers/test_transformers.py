"""Hugging Face transformers: models made from their configurations, exported as Optimum names things, with config.json and
preprocessor_config.json as save_pretrained writes them; their own image processors before and behind."""
import json
import types

import numpy as np
import pytest
import torch
import transformers as hf
from PIL import Image

from peers import MASK, REPORT, SCORE, answers, card, clipped, decoded, levels, mask_overlap, numbers, same_classes, same_depth, same_detections, same_segmentation
from weights import Picked, calibrate_norms, spread_layers, spread_logits

SIDE = 128  # of inputs: small, but not so small that JPEGs shrink while they are decoded


def opened(pictures):
    return [Image.open(p).convert("RGB") for p in pictures]


def export(model, processor, folder, example, outputs, axes=None):
    """What `optimum-cli export onnx` leaves: the graph with Optimum's names, beside it the two configurations."""
    def pick(net, x):
        found = net(pixel_values=x)
        return tuple(found[k] for k in outputs)
    model.config.architectures = [type(getattr(model, "net", model)).__name__]
    model.config.save_pretrained(folder)
    processor.save_pretrained(folder)
    axes = axes or {"pixel_values": {0: "batch", 2: "height", 3: "width"}}
    torch.onnx.export(Picked(model, pick), (example,), folder / "model.onnx", dynamo=False, input_names=["pixel_values"],
                      output_names=list(outputs), dynamic_axes=axes, opset_version=17)
    return folder / "model.onnx"


def run(model, processor, image):
    with torch.no_grad():
        return model(**{"pixel_values": processor(images=image, return_tensors="pt")["pixel_values"]})


# ---- classifiers ---------------------------------------------------------------------------------

LABELS = {"id2label": {i: f"thing {i}" for i in range(30)}, "label2id": {f"thing {i}": i for i in range(30)}}
CLASSIFIERS = {
    "vit": (hf.ViTForImageClassification, hf.ViTConfig, hf.ViTImageProcessor,
            {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 96, "image_size": SIDE},
            {"size": {"height": SIDE, "width": SIDE}}),
    "beit": (hf.BeitForImageClassification, hf.BeitConfig, hf.BeitImageProcessor,
             {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 96, "image_size": SIDE},
             {"size": {"height": 144, "width": 144}, "do_center_crop": True, "crop_size": {"height": SIDE, "width": SIDE}}),
    "deit": (hf.DeiTForImageClassification, hf.DeiTConfig, hf.DeiTImageProcessor,
             {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 96, "image_size": SIDE},
             {"size": {"height": 144, "width": 144}, "crop_size": {"height": SIDE, "width": SIDE}}),
    "swin": (hf.SwinForImageClassification, hf.SwinConfig, hf.ViTImageProcessor,
             {"embed_dim": 24, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4, "image_size": SIDE},
             {"size": {"height": SIDE, "width": SIDE}, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}),
    "convnext": (hf.ConvNextForImageClassification, hf.ConvNextConfig, hf.ConvNextImageProcessor,
                 {"hidden_sizes": [16, 32], "depths": [1, 1], "num_stages": 2}, {"size": {"shortest_edge": SIDE}, "crop_pct": 0.875}),
    "resnet": (hf.ResNetForImageClassification, hf.ResNetConfig, hf.ConvNextImageProcessor,
               {"embedding_size": 16, "hidden_sizes": [16, 32], "depths": [1, 1], "layer_type": "basic"},
               {"size": {"shortest_edge": SIDE}, "crop_pct": 0.95}),
    "mobilevit": (hf.MobileViTForImageClassification, hf.MobileViTConfig, hf.MobileViTImageProcessor,
                  {"hidden_sizes": [24, 32, 40], "neck_hidden_sizes": [8, 8, 16, 16, 24, 24, 48], "image_size": SIDE},
                  {"size": {"shortest_edge": 147}, "crop_size": {"height": SIDE, "width": SIDE}}),
    "dinov2": (hf.Dinov2ForImageClassification, hf.Dinov2Config, hf.BitImageProcessor,
               {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "image_size": 140, "patch_size": 14},
               {"size": {"shortest_edge": 160}, "crop_size": {"height": 140, "width": 140}}),
    "siglip": (hf.SiglipForImageClassification, hf.SiglipConfig, hf.SiglipImageProcessor,
               {"vision_config": {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 96,
                                  "image_size": SIDE}, "text_config": {"hidden_size": 48, "num_hidden_layers": 1, "num_attention_heads": 3}},
               {"size": {"height": SIDE, "width": SIDE}}),
}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classes(onnxd, pictures, tmp_path, name):
    kind, config, processing, sizes, steps = CLASSIFIERS[name]
    torch.manual_seed(1)
    model, processor = kind(config(**sizes, **LABELS)).eval(), processing(**steps)
    batch = torch.cat([processor(images=im, return_tensors="pt")["pixel_values"] for im in opened(pictures)])
    calibrate_norms(model, batch)
    spread_logits(model, model, batch)
    path = export(model, processor, tmp_path, batch[:1], ("logits",), {"pixel_values": {0: "batch"}})
    for x, said in zip(batch, answers(onnxd, path, pictures)):
        with torch.no_grad():
            scores = model(pixel_values=x[None]).logits[0].softmax(0).numpy()
        same_classes(f"transformers {name}", said, scores, LABELS["id2label"])


def test_several_labels(onnxd, pictures, tmp_path):
    kind, config, processing, sizes, steps = CLASSIFIERS["vit"]
    torch.manual_seed(1)
    model, processor = kind(config(**sizes, **LABELS, problem_type="multi_label_classification")).eval(), processing(**steps)
    batch = torch.cat([processor(images=im, return_tensors="pt")["pixel_values"] for im in opened(pictures)])
    spread_logits(model, model, batch)
    path = export(model, processor, tmp_path, batch[:1], ("logits",), {"pixel_values": {0: "batch"}})
    for x, said in zip(batch, answers(onnxd, path, pictures)):
        with torch.no_grad():
            same_classes("transformers vit, several labels", said, model(pixel_values=x[None]).logits[0].sigmoid().numpy())


# ---- detectors -----------------------------------------------------------------------------------

BACKBONE = {"use_timm_backbone": False, "use_pretrained_backbone": False, "backbone": None,
            "backbone_config": hf.ResNetConfig(embedding_size=16, hidden_sizes=[16, 24, 32, 48], depths=[1, 1, 1, 1], layer_type="basic",
                                               out_features=["stage4"])}
SMALL = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
         "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "num_queries": 40}
NAMES = {"id2label": {i: f"thing {i}" for i in range(8)}, "label2id": {f"thing {i}": i for i in range(8)}}


def levels_of(config):
    return {**BACKBONE, "backbone_config": hf.ResNetConfig(**{**config, "out_features": ["stage2", "stage3", "stage4"]})}


def every_level(config):
    return {**BACKBONE, "backbone_config": hf.ResNetConfig(**{**config, "out_features": ["stage1", "stage2", "stage3", "stage4"]})}


RESNET = {"embedding_size": 16, "hidden_sizes": [16, 24, 32, 48], "depths": [1, 1, 1, 1], "layer_type": "basic"}
SHORT = {"size": {"shortest_edge": 160, "longest_edge": 260}}
DETECTORS = {
    "detr": (lambda: hf.DetrForObjectDetection(hf.DetrConfig(**SMALL, **BACKBONE, **NAMES)), lambda: hf.DetrImageProcessor(**SHORT)),
    "conditional_detr": (lambda: hf.ConditionalDetrForObjectDetection(hf.ConditionalDetrConfig(**SMALL, **BACKBONE, **NAMES)),
                         lambda: hf.ConditionalDetrImageProcessor(**SHORT)),
    "deformable_detr": (lambda: hf.DeformableDetrForObjectDetection(hf.DeformableDetrConfig(
        **SMALL, **levels_of(RESNET), **NAMES, num_feature_levels=4)), lambda: hf.DeformableDetrImageProcessor(**SHORT)),
    "yolos": (lambda: hf.YolosForObjectDetection(hf.YolosConfig(hidden_size=48, num_hidden_layers=2, num_attention_heads=3, intermediate_size=96,
                                                                image_size=[96, 128], num_detection_tokens=40, **NAMES)),
              lambda: hf.YolosImageProcessor(size={"height": 96, "width": 128})),
    "rt_detr": (lambda: hf.RTDetrForObjectDetection(hf.RTDetrConfig(
        backbone_config=hf.RTDetrResNetConfig(**{**RESNET, "out_features": ["stage2", "stage3", "stage4"]}),
        encoder_in_channels=[24, 32, 48], encoder_hidden_dim=32, d_model=32, encoder_ffn_dim=48, decoder_ffn_dim=48, decoder_layers=2,
        encoder_attention_heads=2, decoder_attention_heads=2, decoder_in_channels=[32, 32, 32], num_queries=40, **NAMES)),
        lambda: hf.RTDetrImageProcessor(size={"height": 128, "width": 160})),
    "d_fine": (lambda: hf.DFineForObjectDetection(hf.DFineConfig(
        backbone_config=hf.HGNetV2Config(out_features=["stage2", "stage3", "stage4"]),
        encoder_in_channels=[512, 1024, 2048], encoder_hidden_dim=32, d_model=32, encoder_ffn_dim=48, decoder_ffn_dim=48, decoder_layers=2,
        encoder_attention_heads=2, decoder_attention_heads=2, decoder_in_channels=[32, 32, 32], num_queries=40, **NAMES)),
        lambda: hf.RTDetrImageProcessor(size={"height": 128, "width": 160})),
}


def spread_queries(model, batch):
    """Class logits of the queries from -2 to 3, boxes of all sizes."""
    heads = [m for n, m in model.named_modules() if n.split(".")[-1] == "class_labels_classifier" or "class_embed" in n]
    linear = {id(m): m for h in heads for m in h.modules() if isinstance(m, torch.nn.Linear)}.values()
    with torch.no_grad():
        for n, m in model.named_modules():
            if "bbox" in n and isinstance(m, torch.nn.Linear) and m.out_features == 4:
                m.weight += torch.randn_like(m.weight) * 0.2
        logits = torch.cat([model(pixel_values=x[None]).logits for x in batch])
        for m in linear:
            m.weight *= 4 / (logits.max() - logits.mean())
            m.bias[:] = (m.bias - logits.mean()) * 4 / (logits.max() - logits.mean())


def run_export(path, processor, image):
    """A trace keeps the extents and the order of queries of the picture that it was made with, so that these exports answer
    otherwise than the networks themselves: what counts is the export."""
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options)
    x = processor(images=image, return_tensors="pt")["pixel_values"].numpy()
    return types.SimpleNamespace(**{o.name: torch.tensor(v) for o, v in zip(session.get_outputs(), session.run(None, {"pixel_values": x}))})


@pytest.mark.parametrize("name", DETECTORS)
def test_detections(onnxd, pictures, tmp_path, name):
    torch.manual_seed(1)
    model, processor = DETECTORS[name][0]().eval(), DETECTORS[name][1]()
    batch = [processor(images=im, return_tensors="pt")["pixel_values"][0] for im in opened(pictures)]
    spread_queries(model, batch)
    path = export(model, processor, tmp_path, batch[0][None], ("logits", "pred_boxes"))
    found = 0
    for im, said in zip(opened(pictures), answers(onnxd, path, pictures, "--score-threshold", 0.3)):
        out = run_export(path, processor, im) if name in ("deformable_detr", "rt_detr", "d_fine") else run(model, processor, im)
        result = processor.post_process_object_detection(out, threshold=0.3, target_sizes=[im.size[::-1]])[0]
        want = [{"label": int(l), "score": float(s), "box": clipped(b, *im.size)}
                for b, l, s in zip(result["boxes"].tolist(), result["labels"], result["scores"])]
        found += len(same_detections(f"transformers {name}", said, want, 0.3))
    assert found > 10


# ---- maps ----------------------------------------------------------------------------------------

def test_segformer(onnxd, pictures, tmp_path):
    torch.manual_seed(1)
    model = hf.SegformerForSemanticSegmentation(hf.SegformerConfig(
        hidden_sizes=[16, 24, 32, 48], depths=[1, 1, 1, 1], num_attention_heads=[1, 1, 2, 2], decoder_hidden_size=32, **NAMES)).eval()
    processor = hf.SegformerImageProcessor(size={"height": 128, "width": 128})
    batch = torch.cat([processor(images=im, return_tensors="pt")["pixel_values"] for im in opened(pictures)])
    calibrate_norms(model, batch)
    spread_logits(model, model, batch)
    path = export(model, processor, tmp_path, batch[:1], ("logits",))
    for im, said in zip(opened(pictures), answers(onnxd, path, pictures)):
        out = run(model, processor, im)
        want = processor.post_process_semantic_segmentation(out, target_sizes=[im.size[::-1]])[0]
        same_segmentation("transformers segformer", said, want.numpy())


# ---- masks of queries ----------------------------------------------------------------------------

SWIN = {"embed_dim": 24, "depths": [1, 1, 1, 1], "num_heads": [2, 2, 2, 2], "window_size": 4}
PIXELS = {"size": {"shortest_edge": 160, "longest_edge": 260}}
QUERY_MODELS = {
    "mask2former": (lambda: hf.Mask2FormerForUniversalSegmentation(hf.Mask2FormerConfig(
        backbone_config=hf.SwinConfig(**SWIN, out_features=["stage1", "stage2", "stage3", "stage4"]), feature_size=32, mask_feature_size=32,
        hidden_dim=32, encoder_feedforward_dim=48, encoder_layers=1, decoder_layers=2, num_attention_heads=2, dim_feedforward=48,
        num_queries=40, **NAMES)), lambda: hf.Mask2FormerImageProcessor(**PIXELS)),
    "maskformer": (lambda: hf.MaskFormerForInstanceSegmentation(hf.MaskFormerConfig(
        backbone_config=hf.SwinConfig(**SWIN, out_features=["stage1", "stage2", "stage3", "stage4"]), fpn_feature_size=32, mask_feature_size=32,
        decoder_config=hf.DetrConfig(**{**SMALL, "num_queries": 40}), **NAMES)), lambda: hf.MaskFormerImageProcessor(**PIXELS)),
    "detr": (lambda: hf.DetrForSegmentation(hf.DetrConfig(
        **{**SMALL, "decoder_attention_heads": 8, "encoder_attention_heads": 8}, **every_level(RESNET), **NAMES)), lambda: hf.DetrImageProcessor(**SHORT)),
}


def query_outputs(name):
    return ("logits", "pred_masks") if name == "detr" else ("class_queries_logits", "masks_queries_logits")


class Spread(torch.nn.Module):
    """The network, whose queries are all alike with random weights, with more behind it: classes of queries from unlikely to
    certain, and masks that differ."""

    def __init__(self, net, batch, classes, masks):
        super().__init__()
        self.net, self.config, self.classes, self.masks = net, net.config, classes, masks
        with torch.no_grad():
            found = [net(pixel_values=x[None]) for x in batch]
        logits = torch.cat([f[classes][0] for f in found])
        flat = torch.cat([f[masks][0].flatten(1) for f in found], 1)
        queries = flat.shape[0]
        self.scale, self.own = 0.3 / logits.std(), 2.5 * torch.randn(1, queries, logits.shape[1])
        self.own[:, queries // 4:, -1] += 5  # most see nothing
        self.mean, self.deviation = flat.mean(1)[None, :, None, None], flat.std(1)[None, :, None, None]
        self.places = torch.randn(1, queries, 4, 4) * 6

    def forward(self, pixel_values):
        out = self.net(pixel_values=pixel_values)
        out[self.classes] = out[self.classes] * self.scale + self.own
        places = torch.nn.functional.interpolate(self.places, size=out[self.masks].shape[-2:], mode="bilinear")
        out[self.masks] = (out[self.masks] - self.mean) / self.deviation * 0.3 + places - 5
        return out


def same_segments(family, said, want_map, want_segments):
    """Segments of one picture: partners by label and mask."""
    got, taken = said["segmentation"]["segments"], set()
    for s in want_segments:
        mask = want_map[s["id"]]
        best, at = -1, None
        for i, g in enumerate(got):
            if i in taken or g["index"] != s["label_id"] or abs(g["score"] - s["score"]) > SCORE:
                continue
            o = mask_overlap(decoded(g["mask"]), mask)
            if o > best:
                best, at = o, i
        assert at is not None, (s, [(g["index"], g["score"], g["area"]) for g in got])
        taken.add(at)
        small = mask.sum() < 100
        REPORT.add(family, found=1, score=abs(got[at]["score"] - s["score"]), mask=None if small else best)
        assert small or best >= MASK, (best, s, mask.sum())
        assert got[at]["area"] == decoded(got[at]["mask"]).sum()
    assert len(got) == len(want_segments)


def set_kind(onnxd, folder, name, kind, config):
    """What the hub's configuration says of the kind, or a card that says what is to be fused."""
    if kind == "fused":
        said = card(onnxd, folder / "model.onnx")
        said["parameters"] = {**said.get("parameters", {}), "label_ids_to_fuse": [1, 2, 3]}
        (folder / "model.json").write_text(json.dumps(said))
        return {"label_ids_to_fuse": {1, 2, 3}}
    named = {"_name_or_path": f"somebody/{name}-tiny-coco-{kind}"} if kind in ("semantic", "instance") else {}
    (folder / "config.json").write_text(json.dumps({**config, **named}))
    return {}


@pytest.mark.parametrize("name", QUERY_MODELS)
def test_queries(onnxd, pictures, tmp_path, name):
    torch.manual_seed(3)
    model, processor = QUERY_MODELS[name][0]().eval(), QUERY_MODELS[name][1]()
    classes, masks = query_outputs(name)
    batch = [processor(images=im, return_tensors="pt")["pixel_values"][0] for im in opened(pictures)]
    path = export(Spread(model, batch, classes, masks), processor, tmp_path, batch[0][None], (classes, masks))
    config, threshold = json.loads((tmp_path / "config.json").read_text()), 0.4
    outputs = [run_export(path, processor, im) for im in opened(pictures)]
    for kind in ("panoptic", "fused") if name == "detr" else ("semantic", "instance", "panoptic", "fused"):
        fuse = set_kind(onnxd, tmp_path, name, kind, config)
        family, found = f"transformers {name}, {kind}", 0
        for im, out, said in zip(opened(pictures), outputs, answers(onnxd, path, pictures, "--score-threshold", threshold)):
            size = [im.size[::-1]]
            if kind == "semantic":
                same_segmentation(family, said, processor.post_process_semantic_segmentation(out, target_sizes=size)[0].numpy())
                continue
            if kind == "instance":
                result = processor.post_process_instance_segmentation(out, threshold=threshold, target_sizes=size, return_binary_maps=True)[0]
                want = dict(enumerate(result["segmentation"].numpy().astype(bool))) if result["segments_info"] else {}
            else:
                result = processor.post_process_panoptic_segmentation(out, threshold=threshold, target_sizes=size, **fuse)[0]
                want = {s["id"]: (result["segmentation"] == s["id"]).numpy() for s in result["segments_info"]}
            segments = {}
            for s in result["segments_info"]:
                segments.setdefault(s["id"], []).append(s)
            if any(len({(s["label_id"], s["was_fused"] or n) for n, s in enumerate(same)}) > 1 for same in segments.values()):
                continue  # behind what it fuses it counts on from there: one number for two
            found += len(want)
            same_segments(family, said, want, [max(same, key=lambda s: s["score"]) for same in segments.values()])
        assert kind == "semantic" or found >= 5


class Asked(torch.nn.Module):
    """A OneFormer that has its task's tokens already."""

    def __init__(self, net, tokens):
        super().__init__()
        self.net, self.config, self.tokens = net, net.config, tokens

    def forward(self, pixel_values):
        return self.net(pixel_values=pixel_values, task_inputs=self.tokens)


class TwoInputs(torch.nn.Module):
    def __init__(self, spread):
        super().__init__()
        self.spread = spread

    def forward(self, pixel_values, task_inputs):
        self.spread.net.tokens = task_inputs
        out = self.spread(pixel_values)
        return out.class_queries_logits, out.masks_queries_logits


def test_oneformer(onnxd, pictures, tmp_path):
    """The tokens of the task stand in the card: the tokenizer's files, which would tell them, come from the hub only."""
    torch.manual_seed(3)
    model = hf.OneFormerForUniversalSegmentation(hf.OneFormerConfig(
        backbone_config=hf.SwinConfig(**SWIN, out_features=["stage1", "stage2", "stage3", "stage4"]), num_queries=40, conv_dim=32, mask_dim=32,
        hidden_dim=32, encoder_feedforward_dim=48, encoder_layers=1, decoder_layers=2, num_attention_heads=2, dim_feedforward=48,
        text_encoder_width=32, is_training=False, **NAMES)).eval()
    processor = hf.Mask2FormerImageProcessor(size={"height": 160, "width": 192}, do_resize=True)  # OneFormer's own asks the hub for names of classes
    tokens = torch.randint(0, 49408, (1, 77))
    tokens[0, 6:] = 0
    batch = [processor(images=im, return_tensors="pt")["pixel_values"][0] for im in opened(pictures)]
    asked = TwoInputs(Spread(Asked(model, tokens.float()), batch, "class_queries_logits", "masks_queries_logits")).eval().requires_grad_(False)
    path = tmp_path / "model.onnx"
    torch.onnx.export(asked, (batch[0][None], tokens.float()), path, dynamo=False, opset_version=17, input_names=["pixel_values", "task_inputs"],
                      output_names=["class_queries_logits", "masks_queries_logits"], dynamic_axes={"task_inputs": {0: "batch", 1: "tokens"}})
    steps = {"fit": "stretch", "rescale": 1 / 255, "mean": processor.image_mean, "std": processor.image_std}
    keys = {"task": "segment", "outputs": ["class_queries_logits", "masks_queries_logits"], "preprocess": steps,
            "constants": {"task_inputs": tokens[0].tolist()}}
    found = 0
    for kind, decoder in (("panoptic", "maskformer-panoptic"), ("semantic", "maskformer")):
        (tmp_path / "model.json").write_text(json.dumps({**keys, "decoder": decoder}))
        for im, x, said in zip(opened(pictures), batch, answers(onnxd, path, pictures, "--score-threshold", 0.4)):
            with torch.no_grad():
                classes, masks = asked(x[None], tokens.float())
            out = types.SimpleNamespace(class_queries_logits=classes, masks_queries_logits=masks)
            own = hf.OneFormerImageProcessor
            if kind == "semantic":
                want = own.post_process_semantic_segmentation(None, out, target_sizes=[im.size[::-1]])[0]
                same_segmentation("transformers oneformer, semantic", said, want.numpy())
                continue
            result = own.post_process_panoptic_segmentation(None, out, threshold=0.4, target_sizes=[im.size[::-1]])[0]
            want = {s["id"]: (result["segmentation"] == s["id"]).numpy() for s in result["segments_info"]}
            found += len(want)
            same_segments("transformers oneformer, panoptic", said, want, result["segments_info"])
    assert found >= 5


@pytest.mark.parametrize("name", ["dpt", "glpn", "depth_anything"])
def test_depth(onnxd, pictures, tmp_path, name):
    torch.manual_seed(1)
    if name == "dpt":
        model = hf.DPTForDepthEstimation(hf.DPTConfig(hidden_size=32, num_hidden_layers=4, num_attention_heads=2, intermediate_size=48,
                                                      image_size=128, backbone_out_indices=[0, 1, 2, 3], neck_hidden_sizes=[16, 16, 32, 32],
                                                      fusion_hidden_size=16, is_hybrid=False))
        processor = hf.DPTImageProcessor(size={"height": 128, "width": 128})
    elif name == "glpn":
        model = hf.GLPNForDepthEstimation(hf.GLPNConfig(hidden_sizes=[16, 24, 32, 48], depths=[1, 1, 1, 1], num_attention_heads=[1, 1, 2, 2],
                                                        decoder_hidden_size=16))
        processor = hf.GLPNImageProcessor()
    else:
        model = hf.DepthAnythingForDepthEstimation(hf.DepthAnythingConfig(
            backbone_config=hf.Dinov2Config(hidden_size=48, num_hidden_layers=4, num_attention_heads=3, image_size=70, patch_size=14,
                                            out_features=["stage1", "stage2", "stage3", "stage4"], reshape_hidden_states=False),
            reassemble_hidden_size=48, neck_hidden_sizes=[16, 16, 32, 32], fusion_hidden_size=16))
        processor = hf.DPTImageProcessor(size={"height": 70, "width": 70}, keep_aspect_ratio=True, ensure_multiple_of=14)
    model.eval()
    example = processor(images=opened(pictures)[0], return_tensors="pt")["pixel_values"]
    path = export(model, processor, tmp_path, example, ("predicted_depth",))
    for im, *several in zip(opened(pictures), answers(onnxd, path, pictures), answers(onnxd, path, pictures, "--format", "base64")):
        out = run_export(path, processor, im) if name == "depth_anything" else run(model, processor, im)
        want = processor.post_process_depth_estimation(out, target_sizes=[im.size[::-1]])[0]["predicted_depth"]
        for said in several:
            same_depth(f"transformers {name}", said, want.numpy())


def test_super_resolution(onnxd, pictures, tmp_path):
    torch.manual_seed(1)
    model = hf.Swin2SRForImageSuperResolution(hf.Swin2SRConfig(embed_dim=24, depths=[1, 1], num_heads=[2, 2], window_size=8, image_size=64,
                                                               upscale=2)).eval()
    processor = hf.Swin2SRImageProcessor(size_divisor=8)
    small = [p for p in pictures if p.suffix == ".png"]
    wide = tmp_path / "even.png"
    Image.open(small[0]).crop((0, 0, 64, 48)).save(wide)
    cut = tmp_path / "odd.png"
    Image.open(small[1]).crop((100, 100, 173, 161)).save(cut)
    x = processor(images=Image.open(wide), return_tensors="pt")["pixel_values"]
    path = export(model, processor, tmp_path, x, ("reconstruction",))
    for file, said, exact in zip((wide, cut), answers(onnxd, path, [wide, cut]), answers(onnxd, path, [wide, cut], "--format", "floats")):
        im = Image.open(file)
        x = processor(images=im, return_tensors="pt")["pixel_values"]
        assert x.shape[-1] > im.width and x.shape[-2] > im.height
        out = run_export(path, processor, im).reconstruction[0].numpy().transpose(1, 2, 0)[:2 * im.height, :2 * im.width]
        want = out.clip(0, 1)
        far = np.abs(numbers(exact["image"]) - out).max()
        REPORT.add("transformers swin2sr, numbers", found=1, other=far)
        assert far < 0.001
        got = levels(said["image"]["png"])
        assert got.shape == want.shape == (2 * im.height, 2 * im.width, 3)
        off = np.abs(got / 255 - want).max()
        REPORT.add("transformers swin2sr", found=1, other=off)
        assert off < 0.003 and np.ptp(want) > 0.05


def test_embedding(onnxd, pictures, tmp_path):
    torch.manual_seed(1)
    model = hf.CLIPVisionModelWithProjection(hf.CLIPVisionConfig(hidden_size=48, num_hidden_layers=2, num_attention_heads=3,
                                                                 intermediate_size=96, image_size=SIDE, patch_size=16, projection_dim=32)).eval()
    processor = hf.CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    batch = torch.cat([processor(images=im, return_tensors="pt")["pixel_values"] for im in opened(pictures)])
    path = export(model, processor, tmp_path, batch[:1], ("image_embeds",), {"pixel_values": {0: "batch"}})
    for x, said, coded in zip(batch, answers(onnxd, path, pictures), answers(onnxd, path, pictures, "--format", "base64")):
        assert np.array_equal(numbers(coded["embedding"]), np.array(said["embedding"], np.float32))
        with torch.no_grad():
            want = model(pixel_values=x[None]).image_embeds[0]
        off = np.abs(np.array(said["embedding"]) - (want / want.norm()).numpy()).max()
        REPORT.add("transformers clip, vision", found=1, other=off)
        assert off < SCORE


# ---- poses -------------------------------------------------------------------------------------

class FirstExperts(torch.nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, pixel_values, dataset_index):
        return self.net(pixel_values=pixel_values, dataset_index=dataset_index).heatmaps


@pytest.mark.parametrize("experts", [1, 3])
def test_vitpose(onnxd, pictures, tmp_path, experts):
    """The person's box is the whole picture. Heat maps of random weights are lifted above zero, where their logarithm begins. ViTPose+
    asks which data set's experts are wanted: the first one's, COCO's."""
    torch.manual_seed(1)
    points = [f"point {i}" for i in range(17)]
    model = hf.VitPoseForPoseEstimation(hf.VitPoseConfig(
        backbone_config=hf.VitPoseBackboneConfig(hidden_size=48, num_hidden_layers=2, num_attention_heads=3, mlp_ratio=2, image_size=[256, 192],
                                                 patch_size=[16, 16], out_indices=[2], num_experts=experts, part_features=12),
        num_labels=17, id2label=dict(enumerate(points)), label2id={p: i for i, p in enumerate(points)})).eval()
    processor = hf.VitPoseImageProcessor()
    images = opened(pictures)
    boxes = [[[0, 0, *im.size]] for im in images]
    batch = torch.cat([processor(images=im, boxes=[b], return_tensors="pt")["pixel_values"] for im, b in zip(images, boxes)])
    which = {"dataset_index": torch.zeros(5, dtype=torch.long)} if experts > 1 else {}
    spread_layers([model.head.conv], lambda: model(pixel_values=batch, **which), deviation=0.1, top=0.9)
    path = export(model, processor, tmp_path, batch[:1], ("heatmaps",), {"pixel_values": {0: "batch"}}) if experts == 1 else tmp_path / "model.onnx"
    if experts > 1:
        model.config.architectures = ["VitPoseForPoseEstimation"]
        model.config.save_pretrained(tmp_path)
        processor.save_pretrained(tmp_path)
        torch.onnx.export(FirstExperts(model).eval(), (batch[:1], which["dataset_index"][:1]), path, dynamo=False, opset_version=17,
                          input_names=["pixel_values", "dataset_index"], output_names=["heatmaps"], dynamic_axes={"pixel_values": {0: "batch"}})
    assert card(onnxd, path)["labels"] == points
    for im, box, x, said in zip(images, boxes, batch, answers(onnxd, path, pictures)):
        with torch.no_grad():
            out = model(pixel_values=x[None], **{k: v[:1] for k, v in which.items()})
        want = processor.post_process_pose_estimation(out, boxes=[box])[0][0]
        got = np.array([k["point"] for k in said["keypoints"]])
        off = np.abs(got - want["keypoints"].numpy()).max() / max(im.size)
        score = np.abs([k["score"] for k in said["keypoints"]] - want["scores"].numpy()).max()
        REPORT.add("transformers vitpose", found=17, score=score, other=off)
        assert off < 0.001 and score <= SCORE
