import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from retinue.utils import comm


def test_everything_works_without_a_process_group():
    assert (comm.get_world_size(), comm.get_rank()) == (1, 0)
    assert (comm.get_local_size(), comm.get_local_rank()) == (1, 0)
    assert comm.is_main_process()
    comm.synchronize()
    assert comm.all_gather({"a": 1}) == [{"a": 1}]
    assert comm.gather("x") == ["x"]
    values = {"loss": torch.tensor(1.0)}
    assert comm.reduce_dict(values) is values
    assert 0 <= comm.shared_random_seed() < 2**31
    with pytest.raises(AssertionError, match="local process group: expected one; got none"):
        comm.get_local_process_group()


def _two_ranks(rank, path):
    dist.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=2)
    comm.create_local_process_group(1)
    assert (comm.get_world_size(), comm.get_rank()) == (2, rank)
    assert (comm.get_local_size(), comm.get_local_rank()) == (1, 0)
    assert comm.is_main_process() == (rank == 0)
    comm.synchronize()
    assert comm.all_gather([rank]) == [[0], [1]]
    assert comm.all_gather(rank, comm.get_local_process_group()) == [rank]
    assert comm.gather(f"r{rank}", dst=1) == ([] if rank == 0 else ["r0", "r1"])
    assert len(set(comm.all_gather(comm.shared_random_seed()))) == 1
    losses = {"b": torch.tensor(float(rank)), "a": torch.tensor(10.0 * rank)}
    mean = comm.reduce_dict(losses)
    total = comm.reduce_dict(losses, average=False)
    if rank == 0:  # by hand: ranks hold 0 and 1, 0 and 10
        assert mean == {"a": torch.tensor(5.0), "b": torch.tensor(0.5)}
        assert total == {"a": torch.tensor(10.0), "b": torch.tensor(1.0)}
    with pytest.raises(AssertionError, match="there is a local group already"):
        comm.create_local_process_group(1)
    comm._LOCAL_PROCESS_GROUP = None
    with pytest.raises(AssertionError, match="expected a divisor of the 2 processes; got 3"):
        comm.create_local_process_group(3)
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes(tmp_path):
    spawn(_two_ranks, args=(str(tmp_path / "meet"),), nprocs=2)
