"""The networks of `genjax.evaluate.features` in PyTorch: torchvision's and the papers' layers."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


def alexnet():
    """torchvision's `alexnet().features`, to the last ReLU; and the indices of its ReLUs."""
    layers = [
        *(nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(64, 192, 5, 1, 2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(192, 384, 3, 1, 1), nn.ReLU()),
        *(nn.Conv2d(384, 256, 3, 1, 1), nn.ReLU()),
        *(nn.Conv2d(256, 256, 3, 1, 1), nn.ReLU()),
    ]
    return nn.Sequential(*layers), [1, 4, 7, 9, 11]


def vgg16():
    """torchvision's `vgg16().features`, to the last ReLU; and the last ReLU of each block."""
    layers, ends, channels = [], [], 3
    for width, depth in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        if ends:
            layers.append(nn.MaxPool2d(2, 2))
        for _ in range(depth):
            layers += [nn.Conv2d(channels, width, 3, 1, 1), nn.ReLU()]
            channels = width
        ends.append(len(layers) - 1)
    return nn.Sequential(*layers), ends


def with_weights(network, params):
    """The network in float64 with a JAX network's parameters: Conv_0, Conv_1, …"""
    convolutions = [layer for layer in network if isinstance(layer, nn.Conv2d)]
    assert len(convolutions) == len(params)
    with torch.no_grad():
        for i, layer in enumerate(convolutions):
            found = params[f"Conv_{i}"]
            layer.weight.copy_(torch.tensor(np.asarray(found["kernel"]).transpose(3, 2, 0, 1)))
            layer.bias.copy_(torch.tensor(np.asarray(found["bias"])))
    return network.double()


def activations(network, indices, images):
    """Those of LPIPS; images [B, 3, H, W] in −1..1."""
    shift, scale = (
        torch.tensor(values, dtype=torch.float64).reshape(1, 3, 1, 1)
        for values in ((-0.030, -0.088, -0.188), (0.458, 0.448, 0.450))
    )
    x, found = (images - shift) / scale, []
    for i, layer in enumerate(network):
        x = layer(x)
        if i in indices:
            found.append(x)
    return found


def lpips(network, indices, heads, x, y):
    """LPIPS 0.1 as its authors' package computes it."""

    def unit(a):
        return a / (a.square().sum(1, keepdim=True).sqrt() + 1e-10)

    total = 0
    pairs = zip(activations(network, indices, x), activations(network, indices, y), strict=True)
    for head, (a, b) in zip(heads, pairs, strict=True):
        weight = torch.tensor(np.asarray(head), dtype=torch.float64).reshape(1, -1, 1, 1)
        total = total + F.conv2d((unit(a) - unit(b)) ** 2, weight).mean((1, 2, 3))
    return total


class Same(nn.Conv2d):
    """A convolution padded as TensorFlow's SAME."""

    def forward(self, x):
        pads = []
        for n, k, s in zip(x.shape[:1:-1], self.kernel_size, self.stride, strict=True):
            total = max((-(-n // s) - 1) * s + k - n, 0)
            pads += [total // 2, total - total // 2]
        return super().forward(F.pad(x, pads))


def _norm(channels):
    return nn.BatchNorm2d(channels, eps=1e-3)


class MBConv(nn.Module):
    def __init__(self, before, after, kernel, stride, expand):
        super().__init__()
        inner = before * expand
        if expand > 1:
            self._expand_conv = nn.Conv2d(before, inner, 1, bias=False)
            self._bn0 = _norm(inner)
        self._depthwise_conv = Same(inner, inner, kernel, stride, groups=inner, bias=False)
        self._bn1 = _norm(inner)
        self._project_conv = nn.Conv2d(inner, after, 1, bias=False)
        self._bn2 = _norm(after)
        self.adds = stride == 1 and before == after

    def forward(self, x):
        y = x
        if hasattr(self, "_expand_conv"):
            y = F.relu6(self._bn0(self._expand_conv(y)))
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.adds else y


class EfficientNetLite0(nn.Module):
    """The paper's table 1 without squeeze-and-excitation, with ReLU6."""

    def __init__(self):
        super().__init__()
        self._conv_stem = Same(3, 32, 3, 2, bias=False)
        self._bn0 = _norm(32)
        blocks, before = [], 32
        for repeats, kernel, stride, expand, after in (
            (1, 3, 1, 1, 16),
            (2, 3, 2, 6, 24),
            (2, 5, 2, 6, 40),
            (3, 3, 2, 6, 80),
            (3, 5, 1, 6, 112),
            (4, 5, 2, 6, 192),
            (1, 3, 1, 6, 320),
        ):
            for i in range(repeats):
                blocks.append(MBConv(before, after, kernel, 1 if i else stride, expand))
                before = after
        self._blocks = nn.Sequential(*blocks)
        self._conv_head = nn.Conv2d(320, 1280, 1, bias=False)
        self._bn1 = _norm(1280)
        self._fc = nn.Linear(1280, 1000)

    def features(self, x):
        x = self._blocks(F.relu6(self._bn0(self._conv_stem(x))))
        return F.relu6(self._bn1(self._conv_head(x))).mean((2, 3))


class Basic(nn.Module):
    def __init__(self, before, after, kernel, stride=1, padding=0):
        super().__init__()
        self.conv = nn.Conv2d(before, after, kernel, stride, padding, bias=False)
        self.bn = _norm(after)

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)))


class Mixed(nn.Module):
    """Named layers, put together by a function of (module, x)."""

    def __init__(self, wiring, **layers):
        super().__init__()
        self.wiring = wiring
        for name, layer in layers.items():
            self.add_module(name, Basic(*layer))

    def forward(self, x):
        return torch.cat(self.wiring(self, x), 1)


def _average(x):
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


def _a(m, x):
    double = m.branch3x3dbl_3(m.branch3x3dbl_2(m.branch3x3dbl_1(x)))
    return [m.branch1x1(x), m.branch5x5_2(m.branch5x5_1(x)), double, m.branch_pool(_average(x))]


def _b(m, x):
    double = m.branch3x3dbl_3(m.branch3x3dbl_2(m.branch3x3dbl_1(x)))
    return [m.branch3x3(x), double, F.max_pool2d(x, 3, 2)]


def _c(m, x):
    single = m.branch7x7_3(m.branch7x7_2(m.branch7x7_1(x)))
    double = x
    for i in range(1, 6):
        double = getattr(m, f"branch7x7dbl_{i}")(double)
    return [m.branch1x1(x), single, double, m.branch_pool(_average(x))]


def _d(m, x):
    second = x
    for i in range(1, 5):
        second = getattr(m, f"branch7x7x3_{i}")(second)
    return [m.branch3x3_2(m.branch3x3_1(x)), second, F.max_pool2d(x, 3, 2)]


def _e(pool):
    def wiring(m, x):
        single, double = m.branch3x3_1(x), m.branch3x3dbl_2(m.branch3x3dbl_1(x))
        return [
            *(m.branch1x1(x), m.branch3x3_2a(single), m.branch3x3_2b(single)),
            *(m.branch3x3dbl_3a(double), m.branch3x3dbl_3b(double), m.branch_pool(pool(x))),
        ]

    return wiring


ROW, COLUMN = ((1, 7), 1, (0, 3)), ((7, 1), 1, (3, 0))


def _block_a(n, pool):
    return Mixed(
        _a,
        branch1x1=(n, 64, 1),
        branch5x5_1=(n, 48, 1),
        branch5x5_2=(48, 64, 5, 1, 2),
        branch3x3dbl_1=(n, 64, 1),
        branch3x3dbl_2=(64, 96, 3, 1, 1),
        branch3x3dbl_3=(96, 96, 3, 1, 1),
        branch_pool=(n, pool, 1),
    )


def _block_c(c):
    return Mixed(
        _c,
        branch1x1=(768, 192, 1),
        branch7x7_1=(768, c, 1),
        branch7x7_2=(c, c, *ROW),
        branch7x7_3=(c, 192, *COLUMN),
        branch7x7dbl_1=(768, c, 1),
        branch7x7dbl_2=(c, c, *COLUMN),
        branch7x7dbl_3=(c, c, *ROW),
        branch7x7dbl_4=(c, c, *COLUMN),
        branch7x7dbl_5=(c, 192, *ROW),
        branch_pool=(768, 192, 1),
    )


def _block_e(n, pool):
    return Mixed(
        _e(pool),
        branch1x1=(n, 320, 1),
        branch3x3_1=(n, 384, 1),
        branch3x3_2a=(384, 384, (1, 3), 1, (0, 1)),
        branch3x3_2b=(384, 384, (3, 1), 1, (1, 0)),
        branch3x3dbl_1=(n, 448, 1),
        branch3x3dbl_2=(448, 384, 3, 1, 1),
        branch3x3dbl_3a=(384, 384, (1, 3), 1, (0, 1)),
        branch3x3dbl_3b=(384, 384, (3, 1), 1, (1, 0)),
        branch_pool=(n, 192, 1),
    )


class Inception(nn.Module):
    """Inception v3 with the three changes of FID's: no zeros in averages, a maximum at the end."""

    def __init__(self):
        super().__init__()
        self.Conv2d_1a_3x3 = Basic(3, 32, 3, 2)
        self.Conv2d_2a_3x3 = Basic(32, 32, 3)
        self.Conv2d_2b_3x3 = Basic(32, 64, 3, 1, 1)
        self.Conv2d_3b_1x1 = Basic(64, 80, 1)
        self.Conv2d_4a_3x3 = Basic(80, 192, 3)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = (
            _block_a(n, pool) for n, pool in ((192, 32), (256, 64), (288, 64))
        )
        self.Mixed_6a = Mixed(
            _b,
            branch3x3=(288, 384, 3, 2),
            branch3x3dbl_1=(288, 64, 1),
            branch3x3dbl_2=(64, 96, 3, 1, 1),
            branch3x3dbl_3=(96, 96, 3, 2),
        )
        self.Mixed_6b, self.Mixed_6c, self.Mixed_6d, self.Mixed_6e = map(
            _block_c, (128, 160, 160, 192)
        )
        self.Mixed_7a = Mixed(
            _d,
            branch3x3_1=(768, 192, 1),
            branch3x3_2=(192, 320, 3, 2),
            branch7x7x3_1=(768, 192, 1),
            branch7x7x3_2=(192, 192, *ROW),
            branch7x7x3_3=(192, 192, *COLUMN),
            branch7x7x3_4=(192, 192, 3, 2),
        )
        self.Mixed_7b = _block_e(1280, _average)
        self.Mixed_7c = _block_e(2048, lambda x: F.max_pool2d(x, 3, 1, 1))
        self.fc = nn.Linear(2048, 1008)

    def forward(self, x):
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, 2)))
        x = F.max_pool2d(x, 3, 2)
        for name, block in self.named_children():
            if name.startswith("Mixed"):
                x = block(x)
        return x.mean((2, 3))
