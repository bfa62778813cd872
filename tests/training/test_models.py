from __future__ import annotations

import pytest
import torch
from torch import nn

from training import models
from training.__main__ import NETS

torch.set_num_threads(1)
RR = torch.tensor([[0.8, 0.8, 0.8]])


def test_command_line_offers_every_network() -> None:
    assert set(NETS) == set(models.NETWORKS)


@pytest.mark.parametrize(
    ("net", "parameters"), [("cnn", 184_322), ("cnn-lstm", 101_890), ("transformer", 69_058), ("compact", 47_378)]
)
def test_network_turns_windows_into_a_logit_a_class(net: str, parameters: int) -> None:
    network = models.NETWORKS[net](2, False).eval()
    assert models.count_parameters(network) == parameters
    for n in (1, 5):
        assert network(torch.zeros(n, 187)).shape == (n, 2)


@pytest.mark.parametrize("net", NETS)
def test_network_that_takes_the_rr_context_answers_to_it(net: str) -> None:
    torch.manual_seed(0)
    network = models.NETWORKS[net](5, True).eval()
    windows = torch.rand(1, 187)
    on_time, early = network(windows, RR), network(windows, torch.tensor([[0.4, 1.2, 0.8]]))
    assert on_time.shape == (1, 5)
    assert not torch.allclose(on_time, early)


def test_logits_do_not_depend_on_the_batch() -> None:
    torch.manual_seed(0)
    network, windows = models.Cnn(2, False), torch.rand(7, 187)
    rr = torch.full((7, 3), torch.nan)
    whole = models.logits(network, windows, rr)
    torch.testing.assert_close(models.logits(network, windows, rr, batch=2), whole, atol=1e-6, rtol=0)
    assert whole.shape == (7, 2)


def test_compact_layer_is_a_strided_convolution_with_a_kernel_of_two_strides() -> None:
    torch.manual_seed(0)
    layer = models.Pairs(46, 24, 48, 2)
    for buffer in layer.norm.buffers():
        buffer.copy_(torch.rand(buffer.shape) + 0.5)
    layer.norm.weight.data.uniform_(0.5, 2)
    twin = nn.Conv1d(24, 48, 4, stride=2)
    twin.weight.data = layer.linear.weight.reshape(48, 4, 24).transpose(1, 2).contiguous()
    twin.bias = layer.linear.bias
    x = torch.rand(3, 46, 24)
    expected = torch.relu(layer.norm.eval()(twin(x.transpose(1, 2)))).transpose(1, 2)
    torch.testing.assert_close(layer.eval()(x), expected, atol=1e-5, rtol=1e-5)
