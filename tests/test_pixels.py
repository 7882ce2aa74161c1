"""Images of bytes become the same intensities whatever their number, size and layout."""

import numpy as np
import pytest

from eventsnn.encode import EqualBins, ImageEncoder, Scale


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 16, 16), (2, 5, 7), (3, 4, 12)])
@pytest.mark.parametrize("n", [1, 15, 16, 33, 80])
def test_bytes_are_the_numbers_they_mean(n, shape):
    images = np.random.default_rng(n).integers(0, 256, (n, *shape), np.uint8)
    encoder = ImageEncoder((Scale(2.0),), EqualBins(1))
    np.testing.assert_array_equal(encoder.intensities(images), 2 * images.astype(np.float32))
    apart = images.transpose(0, 1, 3, 2)  # a view whose pixels do not lie side by side
    np.testing.assert_array_equal(encoder.intensities(apart), 2 * apart.astype(np.float32))
    images.flags.writeable = False
    np.testing.assert_array_equal(encoder.intensities(images), 2 * images.astype(np.float32))
