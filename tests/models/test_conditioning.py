"""How a label becomes an input: by an embedding, beside a vector, by a projection."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.models import autoencoder, conditioning, dcgan, gan, mlp, stylegan

KEY = jax.random.key(0)


def test_no_label_is_the_label_after_the_last_class():
    module = conditioning.ClassEmbedding(3, 5)
    variables = module.init(KEY, None, 2)
    rows = variables["params"]["Embed_0"]["embedding"]
    assert rows.shape == (4, 5)
    np.testing.assert_array_equal(module.apply(variables, None, 2), rows[jnp.array([3, 3])])
    label = jnp.array([2, 3])
    np.testing.assert_array_equal(module.apply(variables, label, 2), rows[label])


@pytest.mark.heavy
def test_a_class_stands_beside_a_vector_on_the_scale_of_a_standard_normal():
    z = jnp.arange(10.0).reshape(5, 2)
    found = conditioning.beside(z, jnp.array([0, 1, 2, 3, 4]), 4)
    np.testing.assert_array_equal(found[:, :2], z)
    np.testing.assert_array_equal(found[:4, 2:], 2 * np.eye(4))
    assert (found[:4, 2:] ** 2).mean() == 1
    np.testing.assert_array_equal(found[4, 2:], np.zeros(4))
    np.testing.assert_array_equal(conditioning.beside(z, None, 4)[:, 2:], np.zeros((5, 4)))
    assert conditioning.beside(z, None, None) is z
    assert conditioning.beside(z.astype(jnp.bfloat16), None, 4).dtype == jnp.bfloat16


def test_a_projection_is_the_inner_product_of_the_features_and_the_class():
    module, features = conditioning.ClassProjection(3), jax.random.normal(KEY, (4, 5))
    variables = module.init(KEY, features, None)
    rows = np.asarray(variables["params"]["ClassEmbedding_0"]["Embed_0"]["embedding"])
    for label in (jnp.array([0, 2, 1, 3]), None):
        which = [3] * 4 if label is None else label
        expected = np.einsum("bn,bn->b", rows[np.asarray(which)], features)
        np.testing.assert_allclose(module.apply(variables, features, label), expected, rtol=1e-5)


X, Z, T = jnp.ones((3, 4, 4, 1)), jnp.ones((3, 6)), jnp.ones(3)
NETWORKS = {
    "mlp": (lambda classes: mlp.MLP(8, 1, classes), (Z, T)),
    "decoder": (lambda classes: autoencoder.DenseDecoder((4, 4, 1), (8,), classes=classes), (Z,)),
    "conv decoder": (lambda classes: autoencoder.ConvDecoder((4, 4, 1), (4,), classes), (Z,)),
    "gan": (lambda classes: gan.Generator((4, 4, 1), (8,), classes), (Z,)),
    "critic": (lambda classes: gan.Discriminator((8,), classes=classes), (X,)),
    "dcgan": (lambda classes: dcgan.Generator((4, 4, 1), (4, 4), classes), (Z,)),
    "stylegan's mapping": (lambda classes: stylegan.Mapping(6, 1, classes), (Z,)),
    "stylegan's critic": (lambda classes: stylegan.Critic((4,), classes), (X,)),
    "dcgan's critic": (
        lambda classes: dcgan.Critic((4,), spectral_norm=True, classes=classes),
        (X,),
    ),
}


@pytest.mark.heavy
@pytest.mark.parametrize("name", NETWORKS)
def test_equal_inputs_of_other_classes_lead_to_other_outputs(name):
    network, inputs = NETWORKS[name]

    @jax.jit
    def outputs(label):
        variables = network(2).init(KEY, *inputs, label)
        # The output layers that start at zero show nothing.
        moved = jax.tree.map(lambda w: w + 0.1, variables["params"])
        return network(2).apply({**variables, "params": moved}, *inputs, label)

    first, second, neither = np.asarray(outputs(jnp.array([0, 1, 2])))
    assert (first != second).any()
    assert (first != neither).any()
    assert (second != neither).any()


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_without_classes_takes_no_label_and_has_no_parameters_for_it(name):
    network, inputs = NETWORKS[name]

    def parameters(classes, *label):
        variables = jax.eval_shape(lambda: network(classes).init(KEY, *inputs, *label))
        return sum(x.size for x in jax.tree.leaves(variables["params"]))

    assert parameters(None) == parameters(None, None) < parameters(3) < parameters(4)
    with pytest.raises(ValueError, match="a label needs a network with `classes`"):
        parameters(None, jnp.zeros(3, int))
