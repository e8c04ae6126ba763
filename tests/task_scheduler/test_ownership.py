from __future__ import annotations

import random
from collections import Counter

import pytest

from services.task_scheduler.core.ownership import (
    Owner,
    Plan,
    Sight,
    partition_in,
    partition_of,
    plan,
)


class World:
    """Replicas that follow their plans, one at a time and in any order."""

    def __init__(self, count: int, seed: int = 1) -> None:
        self.count = count
        self.owners: dict[int, str] = {}
        self.live: set[str] = set()
        self.moves = 0
        self._random = random.Random(seed)

    def sight(self) -> Sight:
        return Sight({n: Owner(name, f"{name}:1") for n, name in self.owners.items()}, self.live)

    def settle(self) -> None:
        """Lets everybody act until nobody has anything left to do."""
        for _ in range(10 * self.count + 10):
            acted = False
            for name in self._random.sample(sorted(self.live), len(self.live)):
                wanted = plan(self.count, self.sight(), name)
                free = [n for n in range(self.count) if n not in self.owners]
                for number in free[: wanted.take]:
                    self.owners[number] = name
                mine = [n for n, owner in self.owners.items() if owner == name]
                for number in mine[: wanted.release]:
                    del self.owners[number]
                    self.moves += 1
                acted = acted or wanted != Plan()
            if not acted:
                return
        raise AssertionError("they never come to rest")

    def leave(self, name: str) -> None:
        self.live.discard(name)
        self.owners = {n: owner for n, owner in self.owners.items() if owner != name}


@pytest.mark.parametrize("seed", range(30))
def test_whoever_comes_and_goes_all_partitions_are_owned_in_even_shares(seed: int) -> None:
    chance = random.Random(seed)
    world = World(chance.randint(1, 16), seed)
    for step in range(20):
        if world.live and chance.random() < 0.4:
            world.leave(chance.choice(sorted(world.live)))
        else:
            world.live.add(f"r{step}")
        if not world.live:
            continue
        world.settle()
        shares = Counter(world.owners.values())
        assert sorted(world.owners) == list(range(world.count))
        least = min(shares[name] for name in world.live)
        assert max(shares.values()) - least <= 1


def test_who_joins_takes_no_more_than_its_share_from_the_others() -> None:
    world = World(8)
    world.live = {"a", "b"}
    world.settle()
    world.live.add("c")
    world.settle()

    assert world.moves == 2


def test_the_only_partition_stays_where_it_is() -> None:
    world = World(1)
    world.live.add("z")
    world.settle()
    world.live.add("a")
    world.settle()

    assert (world.owners, world.moves) == ({0: "z"}, 0)
    assert plan(1, world.sight(), "a") == Plan()


def test_an_owner_that_knows_nothing_of_shares_counts_as_alive() -> None:
    older = Sight({0: Owner("older", "x:1")}, {"new"})

    assert plan(1, older, "new") == Plan()


def test_a_tenant_is_always_in_the_same_partition() -> None:
    # What a database holds depends on it: these numbers may never change.
    assert [partition_of(name, 4) for name in ("default", "acme", "tenant-0", "Ü")] == [2, 1, 2, 1]
    assert partition_of("acme", 1) == 0
    spread = Counter(partition_of(f"tenant-{number}", 8) for number in range(8_000))
    assert min(spread.values()) > 850


@pytest.mark.parametrize(
    ("task_id", "partition"),
    [("03-0199a0b1c2d3-0000000001", 3), ("00-x", 0), ("ff-x", 0), ("zz", 0), ("", 0)],
)
def test_an_id_tells_its_partition(task_id: str, partition: int) -> None:
    assert partition_in(task_id, 4) == partition
