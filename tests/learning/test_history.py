import torch

from scripts.learning.history import HistoryPool


def numbered(first: int, count: int = 4) -> torch.Tensor:
    return torch.arange(first, first + count, dtype=torch.float32).reshape(-1, 1, 1, 1).expand(-1, 1, 2, 2)


def test_pool_fills_first_then_returns_earlier_images():
    pool = HistoryPool(50)
    for start in range(0, 48, 4):
        assert torch.equal(pool(numbered(start)), numbered(start))
    shown = torch.cat([pool(numbered(start))[:, 0, 0, 0] for start in range(100, 500, 4)])
    new = torch.arange(100, 500)
    past = float((shown != new).float().mean())
    assert 0.4 < past < 0.6
    assert len(pool.images) == 50


def test_pool_of_size_0_changes_nothing():
    pool = HistoryPool(0)
    assert all(torch.equal(pool(numbered(i)), numbered(i)) for i in range(5))


def test_pool_resumes_exactly():
    pool = HistoryPool(5, seed=3)
    for start in range(0, 20, 4):
        pool(numbered(start))
    again = HistoryPool(5)
    again.load_state_dict(pool.state_dict())
    for start in range(20, 60, 4):
        assert torch.equal(pool(numbered(start)), again(numbered(start)))
