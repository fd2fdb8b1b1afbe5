"""Pictures that share an image: where each lies, what shrinking and enlarging do, and the gradient."""

import pytest
import torch

from condense.errors import UserError
from condense.packing import MOST, check_pack, pack, unpack
from condense.preprocessing import Preprocessing


def test_plain_pictures_come_back_whole_and_in_order():
    """Pictures of one colour lose nothing, whatever their number and the factor."""
    for factor in (1, 2, 3):
        colours = torch.arange(2 * factor**2 * 3.0).reshape(-1, 3, 1, 1)
        pictures = colours.expand(-1, -1, 6, 12)
        packed = pack(pictures, factor)
        assert packed.shape == (2, 3, 6, 12)
        torch.testing.assert_close(unpack(packed, factor), pictures)


def test_pictures_lie_row_by_row_and_are_means_of_blocks():
    first = torch.arange(16.0).reshape(1, 1, 4, 4)
    packed = pack(torch.cat([first, first + 100, first + 200, first + 300]), 2)
    blocks = torch.tensor([[2.5, 4.5], [10.5, 12.5]])
    expected = torch.cat([torch.cat([blocks, blocks + 100], 1), torch.cat([blocks + 200, blocks + 300], 1)])
    torch.testing.assert_close(packed, expected[None, None])


def test_a_part_is_enlarged_bilinearly_by_hand():
    """Two pixels become four at a quarter, three quarters, … between their centres; the edge pixels are repeated."""
    image = torch.zeros(1, 1, 4, 4)
    image[0, 0, :2, 2:] = torch.tensor([[0.0, 4.0], [8.0, 16.0]])
    enlarge = torch.tensor([[1.0, 0.0], [0.75, 0.25], [0.25, 0.75], [0.0, 1.0]])
    seen = unpack(image, 2)
    torch.testing.assert_close(seen[1, 0], enlarge @ image[0, 0, :2, 2:] @ enlarge.T)
    assert seen.shape == (4, 1, 4, 4) and not seen[[0, 2, 3]].any()


def test_a_slope_survives_except_at_the_edge():
    slope = torch.arange(8.0).expand(4, 1, 8, 8)
    back = unpack(pack(slope, 2), 2)
    torch.testing.assert_close(back[..., 1:-1], slope[..., 1:-1])
    assert (back[..., 0] == 0.5).all() and (back[..., -1] == 6.5).all()


def test_the_gradient_is_that_of_finite_differences():
    images = torch.randn(2, 2, 4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(lambda x: unpack(x, 2).sin(), images.requires_grad_())


def test_standardising_and_unpacking_commute():
    process = Preprocessing((0.2, 0.5, 0.4), (0.3, 0.1, 0.25))
    images = torch.rand(3, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(unpack(process.normalise(images), 3), process.normalise(unpack(images, 3)))


@pytest.mark.parametrize(
    ("factor", "told"),
    [
        (3, "Images of 8x8 pixels cannot be cut into 3x3 equal parts; choose a pack that divides the side"),
        (0, "pack is 0; an image holds from 1 to 8"),
        (MOST + 1, "pack is 9; an image holds from 1 to 8"),
        (True, "pack is True"),
        ("2", "pack is '2'"),
    ],
)
def test_an_impossible_factor_is_refused(factor, told):
    with pytest.raises(UserError, match=told):
        check_pack(factor, 8, 8)


def test_pictures_that_cannot_be_shrunk_evenly_are_refused():
    with pytest.raises(UserError, match="Images of 6x7 pixels cannot be cut into 2x2 equal parts"):
        pack(torch.zeros(4, 1, 6, 7), 2)
