"""Who learns and how: competitions, rules that change a winner's weights, and schedules of their rates.

All are frozen values. A rule called by hand changes the weights of one sample's winners with the same bits as
:meth:`eventsnn.backends.Backend.learn`, so a training loop can be written out::

    for i in range(len(train)):
        spikes = net.run(train[i], stop=1)
        weights = rule(net.weights[0], train[i], competition(spikes), net.neurons(0).geometry)
        net.set_weights(0, weights)
"""

from __future__ import annotations

from eventsnn.backends import ThresholdAdaptation
from eventsnn.competition import WTA, Competition, split_evenly
from eventsnn.rules import RSTDP, STDP, Adaptive, Custom, Rule
from eventsnn.schedules import Annealing, Doubling, Suppression

__all__ = [
    "RSTDP",
    "STDP",
    "WTA",
    "Adaptive",
    "Annealing",
    "Competition",
    "Custom",
    "Doubling",
    "Rule",
    "Suppression",
    "ThresholdAdaptation",
    "split_evenly",
]
