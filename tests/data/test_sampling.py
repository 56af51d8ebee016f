from itertools import pairwise

import pytest

from segmenter_pl.data.sampling import EvalSampler, Shuffled, StreamBatchSampler, train_subset


def batches(length=11, batch_size=4, steps=20, seed=3, **rest):
    return list(StreamBatchSampler(Shuffled(length, seed), batch_size=batch_size, steps=steps, **rest))


@pytest.mark.parametrize("length", [3, 8, 11, 80])
def test_every_epoch_is_a_permutation(length):
    stream = [pair for batch in batches(length) for pair in batch]
    assert [epoch for epoch, _ in stream] == [position // length for position in range(80)]
    epochs = [[index for e, index in stream if e == epoch] for epoch in range(80 // length)]
    assert all(sorted(epoch) == list(range(length)) for epoch in epochs)
    assert length == 3 or all(first != second for first, second in pairwise(epochs))


@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_share_the_batches_of_one_process(world_size):
    ranks = [batches(rank=rank, world_size=world_size) for rank in range(world_size)]
    joined = [[pair for part in parts for pair in part] for parts in zip(*ranks, strict=True)]
    assert joined == batches()


@pytest.mark.parametrize("start", [0, 1, 7, 19, 20])
def test_start_goes_on_where_the_run_stopped(start):
    assert batches(start=start, rank=1, world_size=2) == batches(rank=1, world_size=2)[start:]
    assert len(StreamBatchSampler(Shuffled(11, 3), batch_size=4, steps=20, start=start)) == 20


def test_order_depends_on_the_seed_alone():
    assert batches() == batches()
    assert batches() != batches(seed=4)


def test_batch_size_must_divide():
    with pytest.raises(ValueError, match=r"dataset.batch_size=4 .* 3 devices"):
        batches(world_size=3)


def test_no_samples_is_an_error():
    with pytest.raises(ValueError, match="no samples"):
        batches(length=0)


@pytest.mark.parametrize(("length", "world_size"), [(1, 2), (5, 2), (7, 3), (6, 1)])
def test_evaluation_sees_every_sample_once(length, world_size):
    samplers = [EvalSampler(length, rank, world_size) for rank in range(world_size)]
    assert sorted(index for sampler in samplers for index in sampler) == list(range(length))
    assert sum(len(sampler) for sampler in samplers) == length


def test_subsets_are_nested_and_sorted():
    sizes = [1, 5, 20, 50]
    subsets = [train_subset(50, size) for size in sizes]
    assert [len(set(subset)) for subset in subsets] == sizes
    assert all(subset == sorted(subset) for subset in subsets)
    assert all(set(small) < set(large) for small, large in pairwise(subsets))
    assert subsets[-1] == list(range(50))


@pytest.mark.parametrize("size", [0, 51])
def test_subset_outside_the_pictures_is_an_error(size):
    with pytest.raises(ValueError, match=rf"dataset.train_images={size}: .*50"):
        train_subset(50, size)
