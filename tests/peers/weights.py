"""Random weights that say something."""
import torch


def calibrate_norms(net, *inputs):
    """Batch norms with what they would have seen in training."""
    norms = [m for m in net.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    for m in norms:
        m.reset_running_stats()
        m.momentum = None
    net.train()
    with torch.no_grad():
        net(*inputs)
    net.eval()


def spread_logits(net, run, batch, deviation=1.0):
    """Make up the last linear layer (or convolution) anew: what it sees is centred, and its logits deviate by `deviation` over
    the pictures, so that classes differ from picture to picture."""
    last = [m for m in net.modules() if isinstance(m, (torch.nn.Linear, torch.nn.Conv2d))][-1]
    seen = []
    hook = last.register_forward_hook(lambda m, i, o: seen.append(o))
    with torch.no_grad():
        run(batch)
        hook.remove()
        out = seen[-1]
        classes = 1 if isinstance(last, torch.nn.Conv2d) else out.ndim - 1
        others = [d for d in range(out.ndim) if d != classes]
        mean = out.mean(others)
        scale = deviation / (out - out.mean(others, keepdim=True)).std()
        last.weight *= scale
        last.bias = torch.nn.Parameter(((last.bias if last.bias is not None else 0) - mean) * scale)


def spread_layers(layers, run, deviation=1.5, top=3.0, above=0.0):
    """Centre what each of these layers gives over all its runs, let it deviate by `deviation`, and shift it until the highest
    (the share `above` of all but left out) is `top` (None: not at all)."""
    seen = {}
    hooks = [layer.register_forward_hook(lambda m, i, o: seen.setdefault(m, []).append(o)) for layer in layers]
    with torch.no_grad():
        run()
        for layer, outs in seen.items():
            flat = torch.cat([o.movedim(1, -1).reshape(-1, o.shape[1]) for o in outs])
            mean = flat.mean(0)
            scale = deviation / (flat - mean).std()
            layer.weight *= scale
            if layer.bias is None:
                layer.bias = torch.nn.Parameter(torch.zeros(len(mean)))
            layer.bias[:] = (layer.bias - mean) * scale
            if top is not None:
                values = ((flat - mean) * scale).flatten()
                layer.bias += top - values.kthvalue(len(values) - int(above * len(values))).values
    for hook in hooks:
        hook.remove()


class Picked(torch.nn.Module):
    """A network whose outputs are those that `pick` takes from its own."""

    def __init__(self, net, pick):
        super().__init__()
        self.net, self.pick = net, pick
        self.eval()
        self.requires_grad_(False)

    def forward(self, x):
        return self.pick(self.net, x)


class Pyramid(torch.nn.Module):
    """A map of `channels` numbers at each of these strides, of which each but the first is twice the one before."""

    def __init__(self, strides, *channels):
        super().__init__()
        width, last, self.channels = 24, None, channels
        steps, heads = [], []
        for stride in strides:
            down = [torch.nn.Conv2d(3, width, 7, stride, 3)] if last is None else [torch.nn.Conv2d(width, width, 3, stride // last, 1)]
            steps.append(torch.nn.Sequential(*down, torch.nn.ReLU(), torch.nn.Conv2d(width, width, 3, 1, 1), torch.nn.ReLU()))
            heads += [torch.nn.Conv2d(width, c, 1) for c in channels]
            last = stride
        self.steps, self.heads = torch.nn.ModuleList(steps), torch.nn.ModuleList(heads)

    def forward(self, x):
        """Level by level, in each level one map for each of `channels`."""
        maps, n = [], len(self.channels)
        for i, step in enumerate(self.steps):
            x = step(x)
            maps += [head(x) for head in self.heads[n * i:n * i + n]]
        return maps
