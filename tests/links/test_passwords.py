from __future__ import annotations

import asyncio

import argon2
import pytest

from evedge.links.passwords import WORKERS, Busy, PasswordChecker, hash_password, hash_problem

HASH = hash_password("right")


@pytest.fixture
def checker():
    checker = PasswordChecker(decoy=HASH, max_waiting=1)
    yield checker
    checker.close()


async def test_passwords_are_checked_and_then_remembered(checker):
    assert checker.remembered("u", HASH, b"right") is None
    assert await checker.check("u", HASH, b"right")
    assert not await checker.check("u", HASH, b"wrong")
    assert not await checker.check("nobody", None, b"right")
    assert checker.remembered("u", HASH, b"right") is True
    assert checker.remembered("u", HASH, b"wrong") is False
    assert checker.remembered("nobody", None, b"right") is False


async def test_a_new_hash_ends_what_is_remembered_of_the_old(checker):
    assert await checker.check("u", HASH, b"right")
    assert checker.remembered("u", hash_password("new"), b"right") is None


async def test_another_users_right_password_is_not_remembered_as_ones_own(checker):
    assert await checker.check("u", HASH, b"right")
    assert checker.remembered("v", HASH, b"right") is None


async def test_the_queue_has_an_end_and_room_again_afterwards(checker):
    checks = [asyncio.create_task(checker.check("u", HASH, b"right")) for _ in range(WORKERS + 1)]
    await asyncio.sleep(0)
    with pytest.raises(Busy):
        await checker.check("u", HASH, b"right")
    assert await asyncio.gather(*checks) == [True] * (WORKERS + 1)
    assert await checker.check("u", HASH, b"right")


async def test_a_hash_that_is_none_lets_nobody_in(checker):
    assert not await checker.check("u", "plain", b"plain")


async def test_a_password_without_end_is_not_hashed(checker):
    assert not await checker.check("u", HASH, b"x" * 70_000)


def test_hashes_of_other_kinds_are_told_apart():
    assert hash_problem(HASH) is None
    assert "not an Argon2 hash" in hash_problem("$2b$12$abc")
    assert "Argon2id" in hash_problem(argon2.PasswordHasher(time_cost=1, memory_cost=64, type=argon2.Type.I).hash("x"))
