"""segmentation_models_pytorch: bare exports."""
import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from PIL import Image

from peers import answers, card, same_segmentation
from weights import Picked, calibrate_norms, spread_layers

SIDE = 192
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's encoders; their package would ask the net for them
MODELS = {  # the network, and what its card is guessed to be
    "Unet, one channel": (lambda: smp.Unet("resnet18", encoder_weights=None, classes=1), "sigmoid"),
    "Unet, one channel of probabilities": (lambda: smp.Unet("resnet18", encoder_weights=None, classes=1, activation="sigmoid"), "probabilities"),
    "FPN at a stride of four": (lambda: smp.FPN("resnet18", encoder_weights=None, classes=4, upsampling=1), "argmax"),
    "PSPNet at a stride of eight": (lambda: smp.PSPNet("resnet18", encoder_weights=None, classes=5, upsampling=1), "argmax"),
    "Linknet, softmax inside": (lambda: smp.Linknet("resnet18", encoder_weights=None, classes=3, activation="softmax2d"), "argmax"),
}


@pytest.mark.parametrize("name", MODELS)
def test_maps(onnxd, pictures, tmp_path, name):
    """Scores are enlarged to the picture before they are compared. Pixels that lie within 0.002 of the span of all scores between
    two classes, a tenth at most, are left out: rounding of the picture's levels decides there."""
    torch.manual_seed(3)
    model = MODELS[name][0]()
    images = [Image.open(p).convert("RGB") for p in pictures]
    arrays = [(np.asarray(im.resize((SIDE, SIDE), Image.BILINEAR)) / 255 - MEAN) / STD for im in images]
    batch = torch.tensor(np.stack(arrays)).permute(0, 3, 1, 2).float()
    calibrate_norms(model, batch)
    last = [m for m in model.segmentation_head.modules() if isinstance(m, torch.nn.Conv2d)]
    spread_layers(last, lambda: model(batch), top=None)
    path = tmp_path / "model.onnx"
    torch.onnx.export(Picked(model, lambda net, x: net(x)), (batch[:1],), path, dynamo=False, input_names=["input"], output_names=["output"],
                      opset_version=17)
    assert card(onnxd, path)["decoder"] == MODELS[name][1]
    for im, x, said in zip(images, batch, answers(onnxd, path, pictures)):
        with torch.no_grad():
            out = torch.nn.functional.interpolate(model(x[None]), im.size[::-1], mode="bilinear")[0]
        limit = 0.5 if "probabilities" in name else 0
        best, second = out.topk(2, dim=0).values if len(out) > 1 else (out[0], torch.full(out.shape[1:], float(limit)))
        clear = ((best - second).abs() > 0.002 * (out.max() - out.min())).numpy()
        assert clear.mean() > 0.9
        want = out.argmax(0) if len(out) > 1 else (out[0] > limit).long()
        same_segmentation(f"smp {name}", said, want.numpy(), clear)
