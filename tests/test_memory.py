"""FreeList and Block: memory that comes back to the layer that used it."""

from __future__ import annotations

import copy
import os
import pickle
import threading

import numpy as np
import pytest

from fastrnn import _native
from fastrnn._memory import Block, FreeList, empty


def address(block: Block) -> int:
    return int(np.frombuffer(block, np.uint8).ctypes.data) if block.nbytes else 0


@pytest.mark.parametrize("nbytes", [1, 63, 64, 65, 1000, 4096, 100_000, 10_000_000])
def test_a_block_is_aligned_writable_bytes(nbytes: int) -> None:
    block = FreeList().take(nbytes)
    view = memoryview(block)
    assert (view.nbytes, view.format, view.readonly) == (nbytes, "B", False)
    assert address(block) % 64 == 0
    view[0], view[-1] = 1, 2
    assert bytes(block)[-1] == 2


def test_a_block_of_no_bytes() -> None:
    block = FreeList().take(0)
    assert block.nbytes == 0
    assert bytes(block) == b""


def test_blocks_come_from_a_list_only() -> None:
    with pytest.raises(TypeError, match=r"FreeList\.take"):
        Block()


def test_memory_comes_back_when_the_last_user_dies() -> None:
    memory = FreeList()
    array = empty(memory, (100, 7), np.float32)
    part = array[3:, ::2].T
    place = array.ctypes.data
    used = memory.nbytes_in_use
    assert used >= 2800
    del array
    assert memory.nbytes_in_use == used, "a view still uses it"
    part[...] = 1
    del part
    assert memory.nbytes_in_use == 0
    assert memory.nbytes_retained == used
    again = empty(memory, (10, 70), np.float32)
    assert again.ctypes.data == place
    assert memory.nbytes_retained == 0


def test_blocks_alive_at_once_do_not_overlap(rng: np.random.Generator) -> None:
    memory = FreeList()
    alive: list[np.ndarray] = []
    for step in range(2000):
        if alive and rng.random() < 0.5:
            array = alive.pop(int(rng.integers(len(alive))))
            assert (array == array[0]).all()
            del array
        array = empty(memory, (int(rng.integers(1, 3000)),), np.int64)
        array[...] = step
        alive.append(array)
    assert memory.nbytes_in_use >= sum(array.nbytes for array in alive)
    for array in alive:
        assert (array == array[0]).all()
    del array
    alive.clear()
    assert memory.nbytes_in_use == 0


def test_sizes_of_like_batches_share_memory() -> None:
    memory = FreeList()
    del_me = memory.take(1_000_000)
    place = address(del_me)
    del del_me
    for nbytes in (990_000, 1_000_000, 980_001):
        block = memory.take(nbytes)
        assert address(block) == place
        del block


def test_a_small_block_does_not_take_a_large_piece() -> None:
    memory = FreeList()
    del_me = memory.take(1_000_000)
    del del_me
    small = memory.take(100)
    assert memory.nbytes_retained >= 1_000_000 - 200_000
    assert small.nbytes == 100


def test_it_keeps_no_more_than_was_in_use_at_once() -> None:
    memory = FreeList()
    for nbytes in range(10_000, 1_000_000, 37_000):
        block = memory.take(nbytes)
        del block
        assert memory.nbytes_retained <= nbytes * 9 // 8 + 64


def test_steps_whose_pieces_follow_each_other_take_nothing_anew() -> None:
    memory = FreeList()

    def step() -> list[int]:
        kept = memory.take(1_000_000)
        places = [address(kept)]
        for nbytes in (80_000, 30_000):  # neither is in use beside the other, or fits it
            block = memory.take(nbytes)
            places.append(address(block))
            del block
        return places

    step()
    retained = memory.nbytes_retained
    places = step()
    for _ in range(200):
        assert step() == places
        assert memory.nbytes_retained == retained
    assert retained >= 1_110_000


def test_it_keeps_a_bounded_number_of_pieces() -> None:
    memory = FreeList()
    blocks = [memory.take(64) for _ in range(500)]
    blocks.clear()
    assert 0 < memory.nbytes_retained <= 64 * 64


def test_it_forgets_a_peak() -> None:
    memory = FreeList()
    large = memory.take(10_000_000)
    del large
    assert memory.nbytes_retained >= 10_000_000
    for _ in range(200):
        block = memory.take(1000)
        del block
    assert memory.nbytes_retained < 10_000


def test_clear_gives_back_what_is_not_in_use() -> None:
    memory = FreeList()
    kept, gone = memory.take(1000), memory.take(1000)
    del gone
    memory.clear()
    assert memory.nbytes_retained == 0
    assert memory.nbytes_in_use >= 1000
    memoryview(kept)[:] = bytes(1000)


@pytest.mark.parametrize("nbytes", [2**62, 2**63, 2**64 - 1, 2**46])
def test_more_than_there_is(nbytes: int) -> None:
    memory = FreeList()
    with pytest.raises(MemoryError, match=str(nbytes)):
        memory.take(nbytes)
    assert memory.nbytes_in_use == 0
    assert memory.take(10).nbytes == 10


@pytest.mark.parametrize("nbytes", [-1, 2**64])
def test_sizes_that_are_none(nbytes: int) -> None:
    with pytest.raises(OverflowError):
        FreeList().take(nbytes)


def test_arrays_of_more_bytes_than_c_can_name() -> None:
    with pytest.raises(MemoryError, match=str(8 * 2**80)):
        empty(FreeList(), (2**40, 2**40), np.float64)


def test_arrays_with_negative_sizes() -> None:
    with pytest.raises(ValueError, match="shape"):
        empty(FreeList(), (3, -1), np.float64)


@pytest.mark.parametrize("shape", [(), (0,), (5, 0, 3), (2, 3, 4)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_arrays(shape: tuple[int, ...], dtype: type) -> None:
    array = empty(FreeList(), shape, dtype)
    assert array.shape == shape
    assert array.dtype == dtype
    assert array.flags.c_contiguous
    assert array.flags.writeable
    array[...] = 3
    assert (array == 3).all()


def test_a_copy_is_a_list_of_its_own() -> None:
    memory = FreeList()
    block = memory.take(1000)
    for other in (copy.deepcopy(memory), pickle.loads(pickle.dumps(memory))):
        assert other.nbytes_in_use == 0
        assert other.take(1000).nbytes == block.nbytes


def test_many_threads_share_a_list() -> None:
    memory = FreeList()
    wrong: list[int] = []

    def use(number: int) -> None:
        for i in range(1000):
            array = empty(memory, (50 + (i * 7 + number) % 100,), np.int64)
            array[...] = number
            if (array != number).any():
                wrong.append(number)

    users = [threading.Thread(target=use, args=(number,)) for number in range(4)]
    for user in users:
        user.start()
    for user in users:
        user.join()
    assert not wrong
    assert memory.nbytes_in_use == 0


def test_blocks_die_in_other_threads_and_after_their_list() -> None:
    memory = FreeList()
    blocks = [memory.take(1000) for _ in range(10)]
    thread = threading.Thread(target=blocks.clear)
    thread.start()
    thread.join()
    assert memory.nbytes_in_use == 0
    block = memory.take(1000)
    del memory
    memoryview(block)[:] = bytes(1000)
    assert bytes(block) == bytes(1000)


def test_a_forked_child_has_its_own() -> None:
    memory = FreeList()
    array = empty(memory, (1000,), np.float64)
    array[...] = 1
    child = os.fork()
    if child == 0:
        array[...] = 2
        other = empty(memory, (1000,), np.float64)
        other[...] = 3
        good = bool((array == 2).all()) and memory.nbytes_in_use >= 16000
        del array, other
        os._exit(0 if good and memory.nbytes_in_use == 0 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert (array == 1).all()


@pytest.mark.skipif(not _native.DEBUG, reason="only builds with FASTRNN_DEBUG fill new memory")
def test_debug_builds_fill_new_memory_with_nan() -> None:
    assert np.isnan(empty(FreeList(), (100,), np.float32)).all()
