"""torchvision's compiled operators, for where only its CUDA build can be had: that build's library needs CUDA's to load at
all, and without it torchvision cannot be imported. The two operators that detectors need are given here instead, by their
documentation, before torchvision is imported; everything else of it is its own Python."""
import numpy as np
import torch

SCHEMAS = ["nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
           "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
           "roi_align(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width, "
           "int sampling_ratio, bool aligned) -> Tensor"]


def suppress(boxes, scores, limit):
    """Greedy non-maximum suppression: best first, what overlaps a kept box by more than `limit` goes."""
    b, kept = boxes.detach().double().numpy(), []
    area = (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])
    left = np.argsort(-scores.detach().numpy(), kind="stable")
    while len(left):
        i, left = left[0], left[1:]
        kept.append(i)
        w = np.minimum(b[i, 2], b[left, 2]) - np.maximum(b[i, 0], b[left, 0])
        h = np.minimum(b[i, 3], b[left, 3]) - np.maximum(b[i, 1], b[left, 1])
        both = np.maximum(w, 0) * np.maximum(h, 0)
        left = left[~(both / (area[i] + area[left] - both) > limit)]
    return torch.as_tensor(np.array(kept, np.int64))


def pool_regions(x, rois, scale, rows, columns, sampling_ratio, aligned):
    """RoI Align: means of bilinear samples, a region at a time."""
    out = x.new_zeros((len(rois), x.shape[1], rows, columns))
    height, width = x.shape[2:]
    shift = 0.5 if aligned else 0.0
    for r, (item, x1, y1, x2, y2) in enumerate(rois.tolist()):
        x1, y1, x2, y2 = (v * scale - shift for v in (x1, y1, x2, y2))
        w, h = (x2 - x1, y2 - y1) if aligned else (max(x2 - x1, 1.0), max(y2 - y1, 1.0))
        ny = sampling_ratio if sampling_ratio > 0 else int(np.ceil(h / rows))
        nx = sampling_ratio if sampling_ratio > 0 else int(np.ceil(w / columns))
        if ny < 1 or nx < 1:
            continue
        ys = y1 + (torch.arange(rows * ny, dtype=torch.float64) + 0.5) * (h / rows / ny)
        xs = x1 + (torch.arange(columns * nx, dtype=torch.float64) + 0.5) * (w / columns / nx)
        (ly, hy, ty, inside_y), (lx, hx, tx, inside_x) = neighbours(ys, height), neighbours(xs, width)
        plane = x[int(item)].double()
        up = plane[:, ly][:, :, lx] * (1 - tx) + plane[:, ly][:, :, hx] * tx
        down = plane[:, hy][:, :, lx] * (1 - tx) + plane[:, hy][:, :, hx] * tx
        samples = (up * (1 - ty[:, None]) + down * ty[:, None]) * (inside_y[:, None] * inside_x)
        out[r] = samples.reshape(-1, rows, ny, columns, nx).mean((2, 4)).to(x.dtype)
    return out


def neighbours(at, n):
    inside = ((at >= -1) & (at <= n)).double()
    at = at.clamp(0, n - 1)
    low = at.floor().long()
    return low, (low + 1).clamp(max=n - 1), at - low, inside


def has_ops() -> bool:
    return True


def assert_has_ops() -> None:
    return None


def install():
    """Import torchvision; give it the operators if its own library does not load."""
    try:
        import torchvision
        return torchvision
    except RuntimeError:
        pass
    library = torch.library.Library("torchvision", "DEF")
    for schema in SCHEMAS:
        library.define(schema)
    library.impl("nms", suppress, "CPU")
    library.impl("roi_align", pool_regions, "CPU")
    install.library = library  # lives as long as the process

    import sys
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    import torchvision
    import torchvision.extension
    import torchvision.ops.boxes
    import torchvision.ops.roi_align  # noqa: F401
    for name in ("torchvision.extension", "torchvision.ops.boxes", "torchvision.ops.roi_align"):
        module = sys.modules[name]
        for attribute, value in (("_has_ops", has_ops), ("_assert_has_ops", assert_has_ops)):
            if hasattr(module, attribute):
                setattr(module, attribute, value)
    return torchvision
