"""Pictures of spikes, of what was learnt and of decisions.

Each function takes ``ax``, where to draw, and returns the axes that it drew on: one pair, or an array of them, one for
each layer, from ``raster`` of several layers. Axes of a part of a figure do as well: ``subfigure.subplots()``. Without
``ax`` it makes a figure, without pyplot, so that nothing is shown and no state outlives it:
``axes.figure.savefig(path)`` saves it.
"""

from eventsnn.colors import COLORS
from eventsnn.plot.curves import accuracy, convergence, has_accuracy
from eventsnn.plot.decisions import confusion
from eventsnn.plot.learning import evolution, features, weights_histogram
from eventsnn.plot.spikes import latency_map, raster, spikes_over_time
from eventsnn.plot.studies import cost_residuals, pareto_front, scaling, spikes_by_layer, time_against_density
from eventsnn.plot.view import animate, contact_sheet
from eventsnn.plot.windows import Choice, Film, film

__all__ = [
    "COLORS",
    "Choice",
    "Film",
    "accuracy",
    "animate",
    "confusion",
    "contact_sheet",
    "convergence",
    "cost_residuals",
    "evolution",
    "features",
    "film",
    "has_accuracy",
    "latency_map",
    "pareto_front",
    "raster",
    "scaling",
    "spikes_by_layer",
    "spikes_over_time",
    "time_against_density",
    "weights_histogram",
]
