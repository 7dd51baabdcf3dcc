import torch

from vtadl.density.em import fit_mixtures


def test_em_finds_the_mixtures_of_all_columns_at_once():
    centres = torch.tensor([[-4.0, 4.0], [-10.0, 2.0]])
    chosen = torch.randint(2, (400, 2)).bool()
    means = torch.where(chosen, centres[:, 1], centres[:, 0])
    x = means[..., None] + 0.5 * torch.randn(400, 2, 3)
    mixture = fit_mixtures(x, 2, 0.01, 20, torch.Generator().manual_seed(1))
    found = mixture.mu.mean(-1).sort(dim=1).values
    torch.testing.assert_close(found, centres, atol=0.2, rtol=0)
    torch.testing.assert_close(mixture.logits.exp().sum(1), torch.ones(2), atol=1e-3, rtol=0)
    assert ((mixture.scale - 0.5).abs() < 0.15).all()


def test_em_raises_the_likelihood():
    x = torch.cat([torch.randn(200, 1, 2) - 3, 0.3 * torch.randn(200, 1, 2) + 3])

    def nll(steps):
        mixture = fit_mixtures(x, 3, 0.05, steps, torch.Generator().manual_seed(0))
        return mixture.nll(x).item()

    values = [nll(steps) for steps in (1, 3, 20)]
    assert values[0] > values[1] > values[2]


def test_em_keeps_the_floor_with_more_components_than_samples():
    mixture = fit_mixtures(torch.randn(2, 3, 4), 5, 0.3)
    assert all(tensor.isfinite().all() for tensor in mixture[:3])
    assert mixture.scale.min() >= 0.3
