"""torchvision: bare exports to ONNX, its own presets for pictures."""
import pytest
import torch
import torchvision
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms._presets import ImageClassification

from peers import answers, same_classes
from weights import calibrate_norms, spread_logits


def opened(pictures):
    return [Image.open(p).convert("RGB") for p in pictures]


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
def test_classes(onnxd, pictures, tmp_path, name):
    torch.manual_seed(2)
    model = torchvision.models.get_model(name, num_classes=40)
    transform = ImageClassification(crop_size=224, resize_size=256, interpolation=InterpolationMode.BILINEAR)
    batch = torch.stack([transform(im) for im in opened(pictures)])
    calibrate_norms(model, batch)
    spread_logits(model, model, batch)
    path = tmp_path / "model.onnx"
    torch.onnx.export(model, (batch[:1],), path, dynamo=False, input_names=["input"], output_names=["output"])
    for x, said in zip(batch, answers(onnxd, path, pictures)):
        with torch.no_grad():
            same_classes(f"torchvision {name}", said, model(x[None])[0].softmax(0).numpy())
