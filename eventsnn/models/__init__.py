"""Published networks, ready made: recipes of encoder, layers, learning and decision, and what comes of them."""

from eventsnn.models.cameras import CAMERA_MODELS, nmnist, nmnist_rstdp
from eventsnn.models.published import (
    MODELS,
    digits,
    falez2019_mnist,
    goupy2022_mnist,
    kheradpisheh2018_mnist,
    mozafari2018_caltech,
    mozafari2018_eth80,
    mozafari2019_mnist,
    mozafari2019_mnist_quick,
    mozafari2019_mnist_svm,
    spyker_mnist,
)
from eventsnn.models.recipe import Model, Step, Trained, write_text

__all__ = [
    "CAMERA_MODELS",
    "MODELS",
    "Model",
    "Step",
    "Trained",
    "digits",
    "falez2019_mnist",
    "goupy2022_mnist",
    "kheradpisheh2018_mnist",
    "mozafari2018_caltech",
    "mozafari2018_eth80",
    "mozafari2019_mnist",
    "mozafari2019_mnist_quick",
    "mozafari2019_mnist_svm",
    "nmnist",
    "nmnist_rstdp",
    "spyker_mnist",
    "write_text",
]
