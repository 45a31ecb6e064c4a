import pytest
import torch

from sklearn_asd.networks import InoueT18, PVMilk20


def count_parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("network", "n_classes", "n_parameters"),
    [
        (PVMilk20, 6, 22_510),
        (PVMilk20, 41, 27_025),
        (InoueT18, 7, 396_039),
        (InoueT18, 63, 403_263),
    ],
)
def test_numbers_of_parameters_are_the_published_ones(network, n_classes, n_parameters):
    assert count_parameters(network(n_classes)) == n_parameters


def test_pvmilk20_has_the_printed_layers():
    convolutions = [
        (m.out_channels, m.kernel_size, m.stride, m.padding, m.bias is not None)
        for m in PVMilk20(6).features
        if isinstance(m, torch.nn.Conv2d)
    ]
    assert convolutions == [
        (8, (7, 1), (1, 1), (3, 0), True),
        (8, (1, 7), (1, 3), (0, 2), True),
        (16, (5, 1), (1, 1), (2, 0), True),
        (16, (5, 1), (1, 1), (2, 0), True),
        (32, (1, 5), (1, 3), (0, 1), True),
    ]


@pytest.mark.parametrize("network", [PVMilk20, InoueT18])
@pytest.mark.parametrize("n_frames", [96, 313, 344])
def test_any_length_gives_logits_and_embedding(network, n_frames):
    logits, embedding = network(5, n_embedding=32)(torch.randn(3, 128, n_frames))
    assert logits.shape == (3, 5)
    assert embedding.shape == (3, 32)


@pytest.mark.parametrize("network", [PVMilk20, InoueT18])
def test_min_frames_is_the_shortest_that_works(network):
    module = network(5).eval()
    module(torch.zeros(1, 128, network.min_frames))
    if network.min_frames > 1:
        with pytest.raises(RuntimeError):
            module(torch.zeros(1, 128, network.min_frames - 1))


@pytest.mark.parametrize("network", [PVMilk20, InoueT18])
def test_other_numbers_of_mel_bands_work(network):
    logits, _ = network(5, n_mels=64)(torch.randn(2, 64, 96))
    assert logits.shape == (2, 5)


def test_logits_are_linear_in_the_embedding():
    network = PVMilk20(5).eval()
    logits, embedding = network(torch.randn(4, 128, 96))
    torch.testing.assert_close(network.classify(embedding), logits)


@pytest.mark.parametrize("network", [PVMilk20, InoueT18])
def test_relu_embedding_is_never_negative_and_linear_is(network):
    log_mel = torch.randn(8, 128, 96)
    relu = network(5, embedding_activation="relu")(log_mel)[1]
    linear = network(5)(log_mel)[1]
    assert relu.min() == 0
    assert linear.min() < 0


def test_unknown_activation_and_too_few_mel_bands_are_refused():
    with pytest.raises(ValueError, match=r"'tanh'.*\"linear\" or \"relu\""):
        PVMilk20(5, embedding_activation="tanh")
    with pytest.raises(ValueError, match="at least 8 mel bands, got 7"):
        InoueT18(5, n_mels=7)


def test_dropout_rates_are_parameters():
    def rates(network):
        return [m.p for m in network.modules() if isinstance(m, torch.nn.Dropout)]

    assert rates(PVMilk20(5)) == [0.2]
    assert rates(PVMilk20(5, dropout=0.1)) == [0.1]
    assert rates(InoueT18(5)) == [0.2, 0.5]
    assert rates(InoueT18(5, dropout=(0.0, 0.3))) == [0.0, 0.3]


@pytest.mark.parametrize("n_frames", [94, 95, 96, 97, 98, 313])
def test_gradients_of_pvmilk20_are_the_same_with_several_threads(n_frames):
    """Those of torch 2.13's strided convolutions are not."""
    torch.manual_seed(0)
    network = PVMilk20(3, dropout=0.0)
    log_mel = 5 * torch.randn(8, 128, n_frames)

    def gradient():
        network.zero_grad()
        logits, embedding = network(log_mel)
        (logits.square().sum() + embedding.square().sum()).backward()
        return torch.cat([p.grad.flatten() for p in network.parameters()])

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = gradient()
        torch.set_num_threads(2)
        several = [gradient() for _ in range(3)]
    finally:
        torch.set_num_threads(before)
    for one in several:
        assert (one - expected).norm() < 1e-3 * expected.norm()
        assert one.equal(several[0])


def test_pvmilk20_scores_with_its_batch_norms_folded_in():
    torch.manual_seed(0)
    network = PVMilk20(6)
    network(4 * torch.randn(16, 128, 96) - 40)  # the norms learn what to expect
    network.eval()
    log_mel = 4 * torch.randn(5, 128, 96) - 40
    layer_by_layer = network(log_mel)
    with torch.no_grad():
        folded = network(log_mel)
    for one, other in zip(folded, layer_by_layer, strict=True):
        assert other.requires_grad
        assert not one.requires_grad
        torch.testing.assert_close(one, other.detach(), atol=1e-5, rtol=1e-5)
