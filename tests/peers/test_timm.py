"""timm: its export to ONNX, the config.json that it writes for the hub, its own transforms."""
import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.models._hub import save_config_for_hf

from peers import answers, same_classes
from weights import calibrate_norms, spread_logits

MODELS = ["resnet18", "resnet10t", "regnetx_002", "convnext_atto",
          "edgenext_xx_small", "vit_tiny_patch16_224", "deit_tiny_patch16_224",
          "mobilevit_xxs", "efficientformerv2_s0", "fastvit_t8", "test_vit"]


def exported(name, pictures, folder, **cfg):
    torch.manual_seed(5)
    model = timm.create_model(name, pretrained=False, num_classes=50)
    config = timm.data.resolve_model_data_config(model)
    transform = timm.data.create_transform(**{**config, **cfg}, is_training=False)
    batch = torch.stack([transform(Image.open(p).convert("RGB")) for p in pictures])
    calibrate_norms(model, batch)
    spread_logits(model, model, batch)
    save_config_for_hf(model, str(folder / "config.json"), model_config={"pretrained_cfg": cfg})
    torch.onnx.export(model, (batch[:1],), folder / "model.onnx", dynamo=False, input_names=["input"], output_names=["output"],
                      dynamic_axes={"input": {0: "batch"}, "output": {0: "batch"}})
    with torch.no_grad():
        return folder / "model.onnx", [model(x[None])[0].softmax(0).numpy() for x in batch]


@pytest.mark.parametrize("name", MODELS)
def test_classes(onnxd, pictures, tmp_path, name):
    path, want = exported(name, pictures, tmp_path)
    for said, scores in zip(answers(onnxd, path, pictures), want):
        same_classes(f"timm {name}", said, scores)


@pytest.mark.parametrize("cfg", [{"crop_mode": "squash", "crop_pct": 0.9}, {"crop_mode": "border", "crop_pct": 0.9},
                                 {"interpolation": "bilinear", "crop_pct": 0.8}, {"interpolation": "nearest"},
                                 {"interpolation": "lanczos"}, {"crop_pct": 1.0}], ids=lambda c: "-".join(map(str, c.values())))
def test_steps_before_the_network(onnxd, pictures, tmp_path, cfg):
    path, want = exported("test_vit", pictures, tmp_path, **cfg)
    for said, scores in zip(answers(onnxd, path, pictures), want):
        same_classes(f"timm, {'-'.join(map(str, cfg.values()))}", said, scores)
