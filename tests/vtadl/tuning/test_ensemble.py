import pytest
import torch

from vtadl.tuning.ensemble import select_bagged_ensemble, select_ensemble

TAKES = 100


def auroc(scores, takes):
    """The quality of summed scores [2, M] of normal and anomalous takes."""
    assert scores.shape[1] == len(takes)
    normal, anomalous = scores
    return (anomalous[:, None] > normal).float().mean().item()


def expert(found, strength=6.0):
    """Scores [2, TAKES] of an expert that sees a part of the anomalies, among noise."""
    return torch.randn(2, TAKES) + strength * torch.stack([torch.zeros(TAKES), found.float()])


def noise(strength=1.0):
    return strength * torch.randn(2, TAKES)


def everything():
    return torch.ones(TAKES, dtype=torch.bool)


def test_the_best_expert_stays_alone_where_others_add_nothing():
    scores = torch.stack([noise(), expert(everything(), 8.0), noise()])
    assert select_ensemble(scores, auroc).tolist() == [0, 1, 0]


def test_an_expert_that_is_noise_has_no_weight():
    scores = torch.stack([expert(torch.arange(TAKES) % 2 == 0), noise(9), expert(everything(), 1)])
    weights = select_ensemble(scores, auroc)
    assert weights[1] == 0
    assert weights[0] > 0


def test_complementary_experts_share_the_weight():
    even = torch.arange(TAKES) % 2 == 0
    scores = torch.stack([expert(even), expert(~even)])
    weights = select_ensemble(scores, auroc)
    assert weights.tolist() == pytest.approx([0.5, 0.5], abs=0.2)
    takes = torch.arange(TAKES)
    best = max(auroc(own, takes) for own in scores)
    assert auroc((weights[:, None, None] * scores).sum(0), takes) > best + 0.1


def test_copies_of_an_expert_are_no_better_than_one():
    own = expert(everything(), 1.0)
    assert sorted(select_ensemble(torch.stack([own, own, own]), auroc).tolist()) == [0, 0, 1]


def test_the_weights_are_fractions_of_the_rounds():
    scores = torch.stack([expert(torch.arange(TAKES) % 3 == part, 3.0) for part in range(3)])
    weights = select_ensemble(scores, auroc, rounds=5)
    assert weights.sum().item() == pytest.approx(1)
    assert any(torch.allclose((weights * n).round(), weights * n, atol=1e-5) for n in range(1, 6))


def test_a_single_round_chooses_the_best_expert():
    even = torch.arange(TAKES) % 2 == 0
    scores = torch.stack([expert(even, 2.0), expert(~even), noise()])
    assert select_ensemble(scores, auroc, rounds=1).tolist() == [0, 1, 0]


def test_bags_are_halves_of_the_takes():
    seen = []

    def quality(scores, takes):
        seen.append(tuple(takes.tolist()))
        return auroc(scores, takes)

    select_bagged_ensemble(torch.stack([expert(everything()), noise()]), quality)
    assert {len(set(takes)) for takes in seen} == {TAKES // 2}
    assert len(set(seen)) > 1


def test_a_single_take_is_enough():
    weights = select_bagged_ensemble(torch.tensor([[[0.0], [1.0]], [[1.0], [0.0]]]), auroc)
    assert weights.tolist() == [1, 0]


def test_bags_share_the_weight_among_experts_that_win_some():
    scores = torch.stack([expert(everything(), 4.0), expert(everything(), 3.9), noise(9)])
    weights = select_bagged_ensemble(scores, auroc)
    assert weights.sum().item() == pytest.approx(1)
    assert weights[:2].min() > 0.2
    assert weights[2] < 0.1


def test_an_expert_that_wins_no_bag_has_no_weight():
    worst = -expert(everything())
    scores = torch.stack([expert(everything()), worst, expert(everything(), 5.0), expert(everything(), 5.0)])
    weights = select_bagged_ensemble(scores, auroc)
    assert weights[1] == 0
    assert weights.sum().item() == pytest.approx(1)
