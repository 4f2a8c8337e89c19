"""The PyTorch originals of the ported networks, under torchvision's own parameter names.

Written with torch.nn from the papers and from torchvision's published parameter names, because
torchvision has no CPU build here; a real torchvision `.pth` loads into them unchanged.
`penultimate` gives what the head takes, `forward` the logits of the head.
"""

from __future__ import annotations

import math
from collections import OrderedDict

import torch
from torch import nn

HEADS = {
    "alexnet": "classifier.6",
    "convnext_tiny": "classifier.2",
    "densenet121": "classifier",
    "resnet18": "fc",
    "resnet50": "fc",
    "vgg16": "classifier.6",
    "vgg19": "classifier.6",
}


class Sequence(nn.Module):
    """AlexNet and VGG: features, pooling, and a classifier whose last member is the head."""

    def __init__(self, features: list[nn.Module], side: int, classifier: list[nn.Module]):
        super().__init__()
        self.features = nn.Sequential(*features)
        self.avgpool = nn.AdaptiveAvgPool2d(side)
        self.classifier = nn.Sequential(*classifier)

    def penultimate(self, x):
        return self.classifier[:-1](torch.flatten(self.avgpool(self.features(x)), 1))

    def forward(self, x):
        return self.classifier[-1](self.penultimate(x))


def alexnet(classes: int) -> nn.Module:
    features: list[nn.Module] = []
    inputs = 3
    for outputs, size, stride, pad, pool in [
        (64, 11, 4, 2, True),
        (192, 5, 1, 2, True),
        (384, 3, 1, 1, False),
        (256, 3, 1, 1, False),
        (256, 3, 1, 1, True),
    ]:
        features += [nn.Conv2d(inputs, outputs, size, stride, pad), nn.ReLU()]
        features += [nn.MaxPool2d(3, 2)] if pool else []
        inputs = outputs
    dense = [nn.Dropout(), nn.Linear(9216, 4096), nn.ReLU()]
    dense += [nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU()]
    return Sequence(features, 6, [*dense, nn.Linear(4096, classes)])


def vgg(classes: int, depths: tuple[int, ...]) -> nn.Module:
    features: list[nn.Module] = []
    inputs = 3
    for outputs, depth in zip((64, 128, 256, 512, 512), depths, strict=True):
        for _ in range(depth):
            features += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
            inputs = outputs
        features.append(nn.MaxPool2d(2, 2))
    dense = [nn.Linear(25088, 4096), nn.ReLU(), nn.Dropout()]
    dense += [nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout()]
    return Sequence(features, 7, [*dense, nn.Linear(4096, classes)])


class BasicBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x):
        skip = x if self.downsample is None else self.downsample(x)
        x = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(x)) + skip)


class Bottleneck(nn.Module):
    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = None
        if stride != 1 or inputs != 4 * width:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width)
            )

    def forward(self, x):
        skip = x if self.downsample is None else self.downsample(x)
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(x)))
        return torch.relu(self.bn3(self.conv3(x)) + skip)


class ResNet(nn.Module):
    def __init__(self, classes: int, block: type[nn.Module], widening: int, depths: tuple):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        inputs = 64
        for stage, depth in enumerate(depths, start=1):
            width = 32 << stage
            members = []
            for index in range(depth):
                members.append(block(inputs, width, 2 if stage > 1 and index == 0 else 1))
                inputs = widening * width
            self.add_module(f"layer{stage}", nn.Sequential(*members))
        self.fc = nn.Linear(inputs, classes)

    def penultimate(self, x):
        x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return x.mean((2, 3))

    def forward(self, x):
        return self.fc(self.penultimate(x))


class DenseLayer(nn.Module):
    def __init__(self, inputs: int):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, 128, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(128)
        self.conv2 = nn.Conv2d(128, 32, 3, padding=1, bias=False)

    def forward(self, x):
        new = self.conv1(torch.relu(self.norm1(x)))
        return torch.cat([x, self.conv2(torch.relu(self.norm2(new)))], 1)


class DenseNet121(nn.Module):
    def __init__(self, classes: int):
        super().__init__()
        members: OrderedDict[str, nn.Module] = OrderedDict(
            conv0=nn.Conv2d(3, 64, 7, 2, 3, bias=False),
            norm0=nn.BatchNorm2d(64),
            relu0=nn.ReLU(),
            pool0=nn.MaxPool2d(3, 2, 1),
        )
        channels = 64
        for block, depth in enumerate((6, 12, 24, 16), start=1):
            dense = nn.Sequential()
            for layer in range(1, depth + 1):
                dense.add_module(f"denselayer{layer}", DenseLayer(channels))
                channels += 32
            members[f"denseblock{block}"] = dense
            if block < 4:
                transition = OrderedDict(
                    norm=nn.BatchNorm2d(channels),
                    relu=nn.ReLU(),
                    conv=nn.Conv2d(channels, channels // 2, 1, bias=False),
                    pool=nn.AvgPool2d(2, 2),
                )
                members[f"transition{block}"] = nn.Sequential(transition)
                channels //= 2
        members["norm5"] = nn.BatchNorm2d(channels)
        self.features = nn.Sequential(members)
        self.classifier = nn.Linear(channels, classes)

    def penultimate(self, x):
        return torch.relu(self.features(x)).mean((2, 3))

    def forward(self, x):
        return self.classifier(self.penultimate(x))


class LayerNorm2d(nn.LayerNorm):
    """Over the channels of (N, C, H, W)."""

    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class CNBlock(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv2d(channels, channels, 7, padding=3, groups=channels),
            nn.Identity(),  # torchvision's permutation, which its dense layers need
            nn.LayerNorm(channels, eps=1e-6),
            nn.Linear(channels, 4 * channels),
            nn.GELU(),
            nn.Linear(4 * channels, channels),
        )
        self.layer_scale = nn.Parameter(torch.empty(channels, 1, 1))

    def forward(self, x):
        new = self.block[2:](self.block[0](x).permute(0, 2, 3, 1))
        return x + self.layer_scale * new.permute(0, 3, 1, 2)


class ConvNeXtTiny(nn.Module):
    def __init__(self, classes: int):
        super().__init__()
        members: list[nn.Module] = []
        inputs = 3
        for channels, depth in ((96, 3), (192, 3), (384, 9), (768, 3)):
            norm = LayerNorm2d(inputs if members else channels, eps=1e-6)
            size = 2 if members else 4
            down = nn.Conv2d(inputs, channels, size, size)
            members.append(nn.Sequential(*((norm, down) if members else (down, norm))))
            members.append(nn.Sequential(*(CNBlock(channels) for _ in range(depth))))
            inputs = channels
        self.features = nn.Sequential(*members)
        self.classifier = nn.Sequential(
            LayerNorm2d(inputs, eps=1e-6), nn.Flatten(), nn.Linear(inputs, classes)
        )

    def penultimate(self, x):
        return self.classifier[:2](self.features(x).mean((2, 3), keepdim=True))

    def forward(self, x):
        return self.classifier[2](self.penultimate(x))


_BUILDERS = {
    "alexnet": alexnet,
    "convnext_tiny": ConvNeXtTiny,
    "densenet121": DenseNet121,
    "resnet18": lambda classes: ResNet(classes, BasicBlock, 1, (2, 2, 2, 2)),
    "resnet50": lambda classes: ResNet(classes, Bottleneck, 4, (3, 4, 6, 3)),
    "vgg16": lambda classes: vgg(classes, (2, 2, 3, 3, 3)),
    "vgg19": lambda classes: vgg(classes, (2, 2, 4, 4, 4)),
}


def empty(name: str, classes: int = 1000) -> nn.Module:
    """The network without memory for its weights: enough to count them."""
    with torch.device("meta"):
        return _BUILDERS[name](classes)


def original(name: str, classes: int = 15, seed: int = 0) -> nn.Module:
    """The network in evaluation mode, with weights that keep activations near 1.

    Kernels are uniform with He's variance; normalisation has scales, shifts and running
    statistics that differ from channel to channel, as after training, and layer scales do.
    """
    network = empty(name, classes).to_empty(device="cpu").eval()
    generator = torch.Generator().manual_seed(seed)

    def uniform(tensor, low, high):
        tensor.uniform_(low, high, generator=generator)

    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                uniform(module.weight, 0.5, 1.1)
                uniform(module.bias, -0.2, 0.2)
                uniform(module.running_mean, -0.3, 0.3)
                uniform(module.running_var, 0.6, 1.8)
                module.num_batches_tracked.fill_(7)
            elif isinstance(module, nn.LayerNorm):
                uniform(module.weight, 0.5, 1.1)
                uniform(module.bias, -0.2, 0.2)
            elif isinstance(module, CNBlock):
                uniform(module.layer_scale, 0.1, 0.9)
            elif isinstance(module, nn.Conv2d | nn.Linear):
                bound = math.sqrt(6 / module.weight[0].numel())
                uniform(module.weight, -bound, bound)
                if module.bias is not None:
                    uniform(module.bias, -0.1, 0.1)
    return network
