"""What pictures of studies show, against the rows that they are made of."""

import numpy as np
import pytest
import study_rows

from eventsnn import plot
from eventsnn.plot.style import new_figure, png
from eventsnn.study import cost
from eventsnn.study.pareto import front
from eventsnn.study.units import percent


def lines(axes):
    return {line.get_label(): line.get_xydata() for line in axes.lines}


def ticks(axis):
    axis.axes.figure.draw_without_rendering()
    low, high = sorted(axis.get_view_interval())
    return [
        text.get_text()
        for text in axis.get_majorticklabels()
        if low <= (text.get_position()[axis.axis_name == "y"]) <= high
    ]


def pairs(rows, x, y):
    return np.array([[row[x], row[y]] for row in rows])


def test_a_layer_that_was_run_in_many_ways_is_drawn_apart():
    rows = [row | {"threads": n, "clock": "wall"} for n in (1, 2) for row in study_rows.sparsity_rows()]
    axes = plot.time_against_density(rows, "digits: Conv(150, kernel=2) on 16x8x8, threads: 2")
    assert sum("batches of" in name for name in lines(axes)) == 4  # both sides, two sizes of batch
    assert axes.get_ylabel() == "wall time for each sample"


def test_time_against_density():
    rows = study_rows.sparsity_rows()
    model = cost.fit(rows)
    axes = plot.time_against_density(study_rows.all_rows(), "digits", model=model)
    drawn = lines(axes)
    for batch in (1, 32):
        some = [row for row in rows if row["network"] == "digits" and row["batch"] == batch]
        assert np.array_equal(drawn[f"event-driven, batches of {batch}"], pairs(some, "density", "seconds"))
        assert np.array_equal(drawn[f"dense, batches of {batch}"], pairs(some, "density", "dense_seconds"))
        assert drawn[f"predicted, batches of {batch}"][:, 1].tolist() == [model.predict(row) for row in some]
    (text,) = axes.texts
    crossing = next(c["density"] for c in cost.crossovers(rows) if c["network"] == "digits")
    assert text.get_text() == f"crossover {percent(crossing)}"
    assert text.xy == (crossing, 1)
    assert crossing == pytest.approx(0.065, rel=0.02)  # what the rows were made from, between two densities
    assert axes.get_title("left") == "digits: Conv(150, kernel=2) on 16x8x8"
    assert ticks(axes.xaxis) == ["1 %", "10 %", "100 %"]
    assert {"10 µs", "100 µs"} <= set(ticks(axes.yaxis))
    styles = {(line.get_color(), line.get_linestyle(), line.get_marker()) for line in axes.lines}
    assert len(styles) == len(axes.lines)  # nothing is told by colour alone


def test_the_first_layer_is_a_published_network_s():
    assert plot.time_against_density(study_rows.sparsity_rows()).get_title("left").startswith("mozafari2019_mnist")
    with pytest.raises(ValueError, match=r"layer expects one of mozafari2019_mnist: .*, got 'falez'"):
        plot.time_against_density(study_rows.sparsity_rows(), "falez")


def test_no_crossover_is_marked_where_one_side_always_wins():
    rows = [row | {"dense_seconds": 1.0} for row in study_rows.sparsity_rows()]
    assert not plot.time_against_density(rows).texts


def test_pareto_front():
    rows = study_rows.tradeoff_rows()
    axes = plot.pareto_front(study_rows.all_rows(), "energy")
    best = front(rows, "energy")
    drawn = lines(axes)
    assert len(drawn["run"]) == 18
    assert len(drawn["mean of a setting"]) == 6
    (container,) = axes.containers
    assert np.array_equal(container.lines[0].get_xydata(), pairs(best, "energy", "accuracy") * [1, 100])
    bars = np.array([segment[:, 1] for segment in container.lines[2][0].get_segments()])
    assert bars.tolist() == pytest.approx(100 * np.array([[row["accuracy_low"], row["accuracy_high"]] for row in best]))
    assert axes.get_xlabel() == "energy for each sample"
    assert "100 nJ" in ticks(axes.xaxis)
    with pytest.raises(ValueError, match="cost expects one of spikes, energy, operations, seconds, got 'joy'"):
        plot.pareto_front(rows, "joy")


def test_one_seed_has_no_interval():
    (container,) = plot.pareto_front(study_rows.tradeoff_rows(seeds=(0,))).containers
    assert all(np.ptp(segment[:, 1]) == 0 for segment in container.lines[2][0].get_segments())


def test_cost_residuals():
    rows = study_rows.sparsity_rows()
    model = cost.fit(rows)
    drawn = lines(plot.cost_residuals(study_rows.all_rows()))
    for held_out, name in ((False, "fitted to (24)"), (True, "not seen by the fit (24)")):
        some = [row for row in rows if row["held_out"] == held_out]
        expected = [[row["seconds"], 100 * (model.predict(row) / row["seconds"] - 1)] for row in some]
        assert drawn[name] == pytest.approx(np.array(expected), abs=1e-9)


def test_scaling():
    axes = plot.scaling(study_rows.all_rows())
    assert (axes.get_xlabel(), axes.get_title("left")) == ("size", "time for each sample against size (cpu time)")
    (line,) = axes.lines
    assert line.get_xdata().tolist() == [16, 32, 64, 128]
    assert ticks(axes.xaxis) == ["16", "32", "64", "128"]
    memory = plot.scaling(study_rows.scaling_rows(), "threads", field="memory")
    assert memory.lines[0].get_ydata().tolist() == [2e8 + 1e5 * value for value in (1, 2, 4)]
    assert len(set(ticks(memory.yaxis))) == len(ticks(memory.yaxis)) >= 2
    with pytest.raises(ValueError, match="axis expects one of size, maps, threads, got 'cores'"):
        plot.scaling(study_rows.scaling_rows(), "cores")
    with pytest.raises(ValueError, match="field expects seconds or memory, got 'joules'"):
        plot.scaling(study_rows.scaling_rows(), field="joules")


def test_spikes_by_layer():
    axes = plot.spikes_by_layer(study_rows.all_rows())
    rows = study_rows.profile_rows()
    assert [patch.get_data().values.tolist() for patch in axes.patches] == [row["spikes_over_time"] for row in rows]
    assert all(patch.get_data().edges.tolist() == rows[0]["times"] for patch in axes.patches)
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert names == ["0: Conv(30, kernel=5), 900", "1: Pool(2), 500", "2: Conv(250, kernel=3), 700"]
    with pytest.raises(ValueError, match="network expects one of example, got 'other'"):
        plot.spikes_by_layer(rows, "other")


@pytest.mark.parametrize(
    "draw",
    [plot.time_against_density, plot.pareto_front, plot.cost_residuals, plot.scaling, plot.spikes_by_layer],
)
def test_all_take_axes_and_refuse_no_rows(draw):
    axes = new_figure((6, 4)).subplots()
    assert draw(study_rows.all_rows(), ax=axes) is axes
    assert png(axes).startswith(b"\x89PNG")
    with pytest.raises(ValueError, match=r"no rows|got none"):
        draw([{"study": "other"}])
