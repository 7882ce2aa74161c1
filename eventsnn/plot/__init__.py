"""Pictures of spikes, of what was learnt and of decisions.

What draws one picture takes ``ax`` and returns the axes; what draws a row or grid of them returns the figure. Figures
are made without pyplot, so nothing is shown and no state outlives them: save them with ``figure.savefig(path)``, or
``axes.figure.savefig(path)``.
"""

from eventsnn.plot.curves import accuracy, convergence, has_accuracy
from eventsnn.plot.decisions import confusion
from eventsnn.plot.learning import evolution, features, weights_histogram
from eventsnn.plot.spikes import latency_map, raster, spikes_over_time
from eventsnn.plot.style import COLORS

__all__ = [
    "COLORS",
    "accuracy",
    "confusion",
    "convergence",
    "evolution",
    "features",
    "has_accuracy",
    "latency_map",
    "raster",
    "spikes_over_time",
    "weights_histogram",
]
