"""The emulated machine itself: it does what a device does, and notices who breaks the rules."""

from __future__ import annotations

import ctypes

import emulated
import pytest
import torch
from conftest import Opener
from torch import Tensor

SEEDS = range(20)


@pytest.fixture
def machine(opener: Opener) -> ctypes.CDLL:
    return opener("fastest")


def probe(
    machine: ctypes.CDLL, name: str, variant: int = 0, size: int = 0, extent: int = 0
) -> tuple[Tensor, Tensor, str]:
    """The probe's input and output, and what went wrong."""
    given = torch.randn(size)
    out = torch.full((size,), torch.nan)
    error = machine.gspn2_probe(name.encode(), variant, given.data_ptr(), out.data_ptr(), extent)
    return given, out, machine.gspn2_probe_error(error).decode() if error else ""


# ---- arithmetic ---------------------------------------------------------------------------------


def test_half_to_float(machine: ctypes.CDLL) -> None:
    bits = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16)
    expected = bits.view(torch.float16).float()
    out = torch.tensor([machine.gspn2_emulation_from_half(b & 0xFFFF) for b in bits.tolist()])
    assert torch.equal(out.isnan(), expected.isnan())
    assert torch.equal(out[~out.isnan()], expected[~expected.isnan()])


def test_rounding_to_sixteen_bits(machine: ctypes.CDLL) -> None:
    halves = torch.arange(0, 0x7C00, 7, dtype=torch.int32).to(torch.int16).view(torch.float16)
    ties = (halves.double() + halves.nextafter(torch.tensor(torch.inf).half()).double()) / 2
    special = torch.tensor(
        [0.0, 1e-45, 2**-25, 2.0**-24, 6e-8, 65504.0, 65519.9, 65520.0, 3e38, torch.inf]
    )
    values = torch.cat([ties.float(), torch.randn(2000), torch.randn(2000) * 1e-6, special])
    values = torch.cat([values, -values])
    for convert, dtype in (
        (machine.gspn2_emulation_to_half, torch.float16),
        (machine.gspn2_emulation_to_bfloat16, torch.bfloat16),
    ):
        bits = torch.tensor([convert(v) for v in values.tolist()], dtype=torch.int32)
        expected = values.to(dtype).view(torch.int16).int() & 0xFFFF
        assert torch.equal(bits, expected), dtype
        assert convert(float("nan")) & 0x7FFF == 0x7FFF


# ---- what works on a device ---------------------------------------------------------------------


@pytest.mark.parametrize("width", [4, 8, 32])
def test_lanes(machine: ctypes.CDLL, width: int) -> None:
    given, out, error = probe(machine, "lanes", size=192, extent=width)
    assert not error
    lane = torch.arange(32)
    within, base = lane % width, lane - lane % width
    by_index, up, down, xor, apart, votes = out.view(6, 32)
    assert torch.equal(by_index, given[base + 5 % width])
    assert torch.equal(up, given[torch.where(within >= 3, lane - 3, lane)])
    assert torch.equal(down, given[torch.where(within + 3 < width, lane + 3, lane)])
    other = lane ^ 5
    assert torch.equal(xor, given[torch.where(other < base + width, other, lane)])
    assert torch.equal(apart[:15], given[1:16])
    assert apart[15].isnan()  # from a lane that did not give
    ballot = sum(1 << (i - 16) for i in range(16, 32) if i % 3 == 0)
    assert bool((apart[16:] == ballot).all())
    assert bool((votes == 1).all())


def test_matrices(machine: ctypes.CDLL) -> None:
    out, error = probe(machine, "matrices", size=128)[1:]
    assert not error
    # Row j of the i-th matrix is 31 - 8 i - j in memory, of four words.
    lane, matrix = torch.arange(32)[:, None], torch.arange(4)
    assert torch.equal(out.view(32, 4), 4.0 * (31 - 8 * matrix - lane // 4) + lane % 4)


@pytest.mark.parametrize(
    ("name", "dtype"), [("product16", torch.float16), ("productB16", torch.bfloat16)]
)
def test_products(machine: ctypes.CDLL, name: str, dtype: torch.dtype) -> None:
    for seed in SEEDS:
        with emulated.seeded(seed):
            given, out, error = probe(machine, name, size=16 * 16 + 2 * 16 * 8)
        assert not error
        a, b = (part.to(dtype).double() for part in given[:384].split((256, 128)))
        exact = given[384:].double().view(16, 8) + a.view(16, 16) @ b.view(8, 16).T
        product = out[:128].double().view(16, 8)
        # The float32 next to it towards 0.
        assert bool(((product - exact).abs() <= exact.abs() * 2.0**-23).all())
        assert bool((product.abs() <= exact.abs()).all())


def test_blocks(machine: ctypes.CDLL) -> None:
    for seed in SEEDS:
        with emulated.seeded(seed):
            given, out, error = probe(machine, "turnRound", size=288)
            assert not error
            assert torch.equal(out.view(3, 96), given.view(3, 96).flip(1))
            given, out, error = probe(machine, "someEnd", size=96)
            assert not error
            left = torch.arange(96)[torch.arange(96) < 70]
            assert torch.equal(out[left], given[left ^ 1])


def test_chunks(machine: ctypes.CDLL) -> None:
    for seed in SEEDS:
        with emulated.seeded(seed):
            given, out, error = probe(machine, "chunks", size=256)
        assert not error
        kept = torch.where(torch.arange(64) % 2 == 0, given.view(64, 4).T, 0.0).T
        assert torch.equal(out.view(64, 4), kept.flip(0))


@pytest.mark.parametrize("size", [2, 4, 8])
def test_clusters(machine: ctypes.CDLL, size: int) -> None:
    for seed in SEEDS:
        with emulated.seeded(seed):
            given, out, error = probe(machine, "passOn", size=2 * size * 64, extent=size)
        assert not error
        assert torch.equal(out.view(2, size, 64), given.view(2, size, 64).roll(1, 1))


@pytest.mark.parametrize("box", [8, 32])
def test_tiles(machine: ctypes.CDLL, box: int) -> None:
    source = torch.randn(40, 52)
    padded = torch.nn.functional.pad(source, (64, 64, 64, 64))
    for column, row in ((0, 0), (-5, 3), (45, 30), (60, 0), (49, -3)):
        out = torch.full((16, box), torch.nan)
        error = machine.gspn2_probe_tile(
            source.data_ptr(), out.data_ptr(), *source.shape, box, column, row
        )
        assert not error
        assert torch.equal(out, padded[row + 64 :, column + 64 :][:16, :box])


# ---- what does not ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "variant", "size", "extent", "message"),
    [
        ("lanesApart", 1, 32, 0, "lanes of a warp meet for different things"),
        ("lanesApart", 2, 32, 0, "leaves out its caller"),
        ("matrices", 1, 128, 0, "misaligned"),
        ("product16", 1, 512, 0, "matrices of the lanes 0xfffffff7 alone"),
        ("product16", 2, 512, 0, "lanes of a warp meet for different things"),
        ("turnRound", 2, 288, 0, "deadlock"),
        ("turnRound", 3, 288, 0, "outside its shared memory, 384 bytes"),
        ("turnRound", 4, 288, 0, "memory at 0x"),
        ("turnRound", 5, 288, 0, "a misaligned access"),
        ("chunks", 2, 256, 0, "an arrival too many"),
        ("chunks", 3, 256, 0, "64 of 64 arrivals and 0 bytes to come"),
        ("passOn", 1, 512, 4, "not initialised"),
        ("passOn", 0, 128, 1, "a launch without clusters"),
    ],
)
def test_a_broken_rule_ends_the_launch(
    machine: ctypes.CDLL, name: str, variant: int, size: int, extent: int, message: str
) -> None:
    errors = []
    for seed in SEEDS:
        with emulated.seeded(seed):
            errors.append(probe(machine, name, variant, size, extent)[2])
    assert any(message in error for error in errors), errors
    # A failed launch leaves nothing behind.
    given, out, error = probe(machine, "turnRound", size=288)
    assert not error
    assert torch.equal(out.view(3, 96), given.view(3, 96).flip(1))


@pytest.mark.parametrize(
    ("name", "variant", "size", "extent"),
    [("turnRound", 1, 288, 0), ("chunks", 1, 256, 0), ("passOn", 2, 512, 4)],
)
def test_a_missing_wait_shows(
    machine: ctypes.CDLL, name: str, variant: int, size: int, extent: int
) -> None:
    """In most schedules: the values are not there yet."""
    stale = 0
    for seed in SEEDS:
        with emulated.seeded(seed):
            out, error = probe(machine, name, variant, size, extent)[1:]
        stale += bool(error) or bool(out.isnan().any())
    assert stale > len(SEEDS) // 2
