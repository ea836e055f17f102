"""Networks with real weights against PyTorch's layers in float64, and what their values say."""

import io
import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from genjax.data import Dataset, DataSettings
from genjax.data.preparation import prepared
from genjax.evaluate.features import (
    efficientnet,
    imagenet,
    inception,
    resizing,
    weights,
)
from genjax.evaluate.features.network import pixels
from genjax.evaluate.lpips import lpips

pytestmark = pytest.mark.heavy

torch = pytest.importorskip("torch")

from tests.evaluate import torch_networks  # noqa: E402

TWINS = {"alexnet": torch_networks.alexnet, "vgg16": torch_networks.vgg16}
MAKERS = {"alexnet": imagenet.alexnet, "vgg16": imagenet.vgg16}
BACKBONES = {"alexnet": imagenet.ALEXNET, "vgg16": imagenet.VGG16}


def installed(package):
    return bool(list(weights.importlib.metadata.distributions(name=package)))


needs_lpips = pytest.mark.skipif(not installed(imagenet.PACKAGE), reason=".[features]")
needs_lite0 = pytest.mark.skipif(not installed(efficientnet.PACKAGE), reason=".[features]")


def photos(*shape):
    """Smooth images: noise would leave a network of photographs most of the way at rest."""
    rng = np.random.default_rng(0)
    coarse = rng.uniform(0, 255, (shape[0], 8, 8, shape[-1]))
    return np.asarray(jax.image.resize(coarse, shape, "cubic")).clip(0, 255).astype(np.uint8)


def as_torch(x):
    return torch.tensor(np.asarray(x, np.float64)).permute(0, 3, 1, 2)


def close(found, expected, relative):
    """Errors of float32 are relative to the largest terms of sums, so to the largest value."""
    expected = expected.detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=relative * np.abs(expected).max())


@jax.jit
def features_and_logits(features, logits, images):
    """Both by one program: XLA finds what they share."""
    return features(images), logits(images)


@pytest.fixture(params=["alexnet", "vgg16"])
def backbone(request):
    return BACKBONES[request.param]


@pytest.fixture
def twin(backbone):
    params, heads = imagenet.load(backbone)
    network, indices = TWINS[backbone.name]()
    return torch_networks.with_weights(network, params), indices, heads


@needs_lpips
def test_features_of_lpips_networks_are_those_of_torch(backbone, twin):
    images = photos(2, 40, 32, 3)
    network = MAKERS[backbone.name](48)
    assert (network.name, network.sha256) == (backbone.name, backbone.sha256)
    assert network.resizing == resizing.in_words(48)
    assert network.logits is None
    found = network([images])
    assert found.shape == (2, network.size)
    x = as_torch(np.asarray(resizing.resize(images, 48)) / 127.5 - 1)
    with torch.no_grad():
        expected = torch_networks.activations(*twin[:2], x)[-1].mean((2, 3))
    assert expected.max() > 0.1
    # 13 layers of sums of 4,608 products: some tens of float32's 6e-8.
    close(found, expected, 5e-6)


@jax.jit
def values_and_gradient(distance, x, y):
    def total(x):
        found = distance(x, y)
        return found.sum(), found

    gradient, found = jax.grad(total, has_aux=True)(x)
    return found, gradient


@needs_lpips
def test_lpips_and_its_gradient_are_those_of_torch(backbone, twin):
    x, y = (photos(4, 48, 48, 3) / 127.5 - 1).astype(np.float32).reshape(2, 2, 48, 48, 3)
    distance = lpips(backbone)
    found, gradient = values_and_gradient(distance, x, y)
    one = as_torch(x).requires_grad_()
    expected = torch_networks.lpips(*twin, one, as_torch(y))
    expected.sum().backward()
    assert found.shape == (2,)
    assert found.min() > 0.1
    close(found, expected, 5e-6)
    # Where a ReLU or a maximum is a near tie, float32 may choose the other side.
    close(gradient, one.grad.permute(0, 2, 3, 1), 1e-3)
    # XLA may round the two equal activations differently: squares of 1e-7, where torch has 0.
    same, flat = values_and_gradient(distance, x, x)
    np.testing.assert_allclose(same, 0, atol=1e-12)
    np.testing.assert_allclose(flat, 0, atol=1e-5 * np.abs(gradient).max())
    near, far = (values_and_gradient(distance, x, np.roll(x, n, 2))[0] for n in (1, 8))
    assert (near > 0).all()
    assert (near < far).all()
    # Activations that are all 0, whose norm has no derivative.
    dead = jax.tree.map(jnp.zeros_like, distance.args[0])
    found, gradient = values_and_gradient(Partial(distance.func, dead, distance.args[1]), x, y)
    assert np.array_equal(found, [0, 0])
    assert np.array_equal(gradient, np.zeros_like(x))


@needs_lpips
def test_grey_images_are_those_of_three_equal_channels():
    network, distance = imagenet.alexnet(31), lpips()
    grey = photos(2, 31, 31, 1)
    rgb = np.repeat(grey, 3, -1)
    np.testing.assert_allclose(network([grey]), network([rgb]), rtol=0, atol=1e-5)
    first, second = (each[:1] / np.float32(127.5) - 1 for each in (grey, rgb))
    found = [jax.jit(distance)(each, each[:, ::-1]) for each in (first, second)]
    np.testing.assert_allclose(*found, rtol=1e-5)


@needs_lpips
def test_images_too_small_for_the_layers_are_refused(backbone):
    least = backbone.smallest
    with pytest.raises(ValueError, match=f"a side of {least}"):
        MAKERS[backbone.name](least - 1)
    distance = lpips(backbone)
    fits, small = (jax.ShapeDtypeStruct((1, n, 64, 3), jnp.float32) for n in (least, least - 1))
    assert jax.eval_shape(distance, fits, fits).shape == (1,)
    with pytest.raises(ValueError, match=f"needs images of {least}x{least}"):
        jax.eval_shape(distance, small, small)
    with pytest.raises(ValueError, match="two batches"):
        jax.eval_shape(distance, fits, small)


@needs_lite0
def test_efficientnet_lite0_is_that_of_torch():
    network = efficientnet.efficientnet_lite0()
    data = weights.package_bytes("", efficientnet.PACKAGE, efficientnet.FILE, efficientnet.SHA256)
    twin = torch_networks.EfficientNetLite0()
    twin.load_state_dict(torch.load(io.BytesIO(data), weights_only=True))
    twin.double().eval()
    images = photos(1, 64, 48, 3)
    x = as_torch((np.asarray(resizing.resize(images, 224)) - 127) / 128)
    with torch.no_grad():
        expected = twin.features(x)
        expected_logits = twin._fc(expected)
    # 50 layers, of which each BatchNorm is folded into a convolution and rounded once more.
    found, logits = features_and_logits(network.features, network.logits, images)
    close(found, expected, 2e-5)
    close(logits, expected_logits, 2e-5)
    assert network.size == expected.shape[1] == 1280


def random_inception():
    torch.manual_seed(0)
    twin = torch_networks.Inception()
    with torch.no_grad():
        for module in twin.modules():
            if isinstance(module, torch.nn.Conv2d):  # so that no layer's output vanishes
                torch.nn.init.kaiming_normal_(module.weight)
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.1)
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
    return twin.eval()


@pytest.fixture(scope="module")
def own_file(tmp_path_factory):
    twin, path = random_inception(), tmp_path_factory.mktemp("own") / "inception.pth"
    torch.save(twin.state_dict(), path)
    return twin.double(), path


def test_inception_is_that_of_torch(own_file):
    twin, path = own_file
    network = inception.inception(path)
    images = photos(1, 32, 32, 3)
    x = as_torch((np.asarray(resizing.resize(images, 299)) - 128) / 128)
    with torch.no_grad():
        expected = twin(x)
        # Without the bias of the last layer, as the Inception Score has it.
        expected_logits = expected @ twin.fc.weight.T
    assert network.size == expected.shape[1] == 2048
    # 94 layers, of which each BatchNorm is folded into a convolution and rounded once more.
    found, logits = features_and_logits(network.features, network.logits, images)
    close(found, expected, 2e-5)
    close(logits, expected_logits, 2e-5)


def test_only_the_standard_file_is_called_fid(own_file, monkeypatch):
    _, path = own_file
    own = inception.inception(path)
    assert own.name == "inception (own file)"
    assert not inception.is_fid(own)
    # The hash that PyTorch's naming of files shows the beginning of.
    assert inception.SHA256.startswith("6726825d")
    assert len(inception.SHA256) == 64
    monkeypatch.setattr(inception, "SHA256", own.sha256)
    standard = inception.inception(path)
    assert standard.name == "inception"
    assert inception.is_fid(standard)


def test_a_file_that_is_no_inception_is_refused(own_file, tmp_path):
    twin, _ = own_file
    state = twin.float().state_dict()
    twin.double()
    cut = {k: v for k, v in state.items() if not k.startswith("Mixed_6c.branch7x7_2")}
    wide = state | {"Mixed_6c.branch7x7_2.conv.weight": torch.zeros(160, 5, 1, 7)}
    flat = state | {"fc.weight": torch.zeros(2048)}
    other = {"weight": torch.zeros(3)}
    for i, wrong in enumerate((cut, wide, flat, other)):
        torch.save(wrong, tmp_path / f"{i}.pth")
        with pytest.raises(weights.FeatureError, match="holds no Inception") as caught:
            inception.inception(tmp_path / f"{i}.pth")
        assert "\n" not in str(caught.value)
    (tmp_path / "text").write_text(json.dumps({}))
    with pytest.raises(weights.FeatureError, match="no state dict"):
        inception.inception(tmp_path / "text")


@needs_lpips
@pytest.mark.slow
def test_the_nearest_neighbours_of_features_have_the_same_class_more_often_than_those_of_pixels():
    folder = Path(os.environ.get("GENJAX_DATA_DIR", "."))
    if prepared("cifar10", folder) is None:
        pytest.skip("$GENJAX_DATA_DIR holds no prepared cifar10")
    sets = Dataset(DataSettings("cifar10", dir=str(folder)))
    train, test = sets.train.batch(0, 0, 2000), sets.test.batch(0, 0, 400)

    def right(network):
        x, y = (
            network(np.split(batch["image"], len(batch["image"]) // 100)) for batch in (train, test)
        )
        distances = (x**2).sum(1) - 2 * y @ x.T
        nearest = train["label"][np.argpartition(distances, 5, axis=1)[:, :5]]
        votes = [np.bincount(labels, minlength=10).argmax() for labels in nearest]
        return np.mean(votes == test["label"])

    # Of 10 classes; a standard error of 400 draws is 0.025.
    of_pixels = right(pixels((32, 32, 3)))
    assert 0.12 < of_pixels < 0.32
    assert right(imagenet.alexnet()) > of_pixels + 0.1
