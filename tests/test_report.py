"""The report of studies: what is in the page, and what a real browser makes of it."""

import html
import json
import os
import re
import shutil
import subprocess
import sys
from functools import partial

import pytest
import study_rows

from eventsnn.markup import table
from eventsnn.study import cost, figures
from eventsnn.study.report import check, report
from eventsnn.study.results import read
from eventsnn.study.units import percent, si

pytest.importorskip("plotly", reason="plotly is not installed: pip install 'eventsnn[report]'")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    report(study_rows.all_rows(), path)
    return path


def figures_of(text):
    found = re.findall(r'<script type="application/json" id="([\w-]+)-data">(.*?)</script>', text)
    return {name: json.loads(values) for name, values in found}


def tables_of(text):
    """Return the cells of all tables, by the caption before them."""
    found = {}
    for caption, body in re.findall(r'aria-label="([^"]*)"><table.*?<tbody>(.*?)</tbody>', text, re.DOTALL):
        rows = re.findall(r"<tr>(.*?)</tr>", body)
        found[html.unescape(caption)] = [
            [html.unescape(c) for c in re.findall(r"<td.*?>(.*?)</td>", row)] for row in rows
        ]
    return found


def test_everything_is_in_one_file(page):
    text = page.read_text()
    ours = re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
    assert not re.search(r'(src|href)="(?!#|data:)', ours)
    assert "@import" not in ours
    assert "url(" not in ours


def test_each_study_has_its_figures(page):
    drawn = figures_of(page.read_text())
    rows = study_rows.sparsity_rows()
    curves = drawn["sparsity-0"]
    assert [*curves] == [
        "mozafari2019_mnist: Conv(32, kernel=5, padding=2) + Pool(2) on 6x28x28",
        "digits: Conv(150, kernel=2) on 16x8x8",
        "Conv(16, kernel=3, padding=1) on 2x24x24",
        "Conv(50, kernel=5, padding=2) + Pool(2) on 4x32x32",
    ]
    for label, figure in curves.items():
        mine = [
            row for row in rows if label.endswith(f"{row['layer']}{' + Pool(2)' * bool(row['pool'])} on {row['shape']}")
        ]
        lines = {trace["name"]: trace for trace in figure["data"]}
        for batch in (1, 32):
            some = [row for row in mine if row["batch"] == batch]
            assert lines[f"event-driven, batches of {batch}"]["y"] == [row["seconds"] for row in some]
            assert lines[f"dense, batches of {batch}"]["y"] == [row["dense_seconds"] for row in some]
        assert lines["crossover"]["x"][0] == pytest.approx(cost.crossovers(mine)[0]["density"])
    unseen = next(trace for trace in drawn["sparsity-1"][""]["data"] if trace["name"].startswith("not seen"))
    held_out = [row for row in rows if row["held_out"]]
    assert unseen["x"] == [row["seconds"] for row in held_out]
    assert unseen["y"] == [cost.fit(rows).predict(row) for row in held_out]
    front = next(trace for trace in drawn["tradeoff-0"]["digits"]["data"] if trace["name"] == "Pareto front")
    assert len(front["x"]) == 5  # of six settings one is beaten
    assert front["x"] == sorted(front["x"])
    assert {*drawn} >= {"scaling-0", "scaling-5", "profile-0", "profile-1"}


def test_a_layer_that_was_run_in_many_ways_has_several_figures(tmp_path):
    rows = [row | {"threads": threads} for threads in (1, 2, 4) for row in study_rows.sparsity_rows()]
    report(rows, tmp_path / "r.html")
    drawn = figures_of((tmp_path / "r.html").read_text())["sparsity-0"]
    assert [label for label in drawn if label.startswith("digits")] == [
        f"digits: Conv(150, kernel=2) on 16x8x8, threads: {threads}" for threads in (1, 2, 4)
    ]
    for figure in drawn.values():
        assert sum(trace["name"].startswith("event-driven") for trace in figure["data"]) == 2


def test_energies_say_what_they_are_made_of(tmp_path):
    costs = {"pj_per_operation": 0.9, "pj_per_mac": 4.6}
    rows = [row | {"config": row["config"] | costs} for row in study_rows.tradeoff_rows()]
    report(rows, tmp_path / "r.html")
    said = (
        "Energy: 0.9 pJ an operation that is not stopped (dense: 4.6 pJ a multiply-accumulate). Horowitz 2014, 45 nm."
    )
    assert said in (tmp_path / "r.html").read_text()


def test_tables_say_what_rows_say(page):
    tables = tables_of(page.read_text())
    crossings = {(row[0], row[3], row[5]): row[1] for row in tables["Crossovers"]}
    assert crossings["digits", "Conv(150, kernel=2)", "32"] == percent(
        next(c["density"] for c in cost.crossovers(study_rows.sparsity_rows()) if c["network"] == "digits")
    )
    model = {row[0]: row[1:] for row in tables["Cost model: predicted against measured time"]}
    alone = cost.fit(study_rows.sparsity_rows(), cost.SIMPLE).error.median
    assert model["not seen, by operations and positions alone"][:2] == ["24", percent(alone)]
    assert model["not seen by the fit"][:2] == ["24", percent(cost.fit(study_rows.sparsity_rows()).error.median)]
    assert len(tables["Pareto front of accuracy and spikes"]) == 5
    assert len(tables["All 48 rows"]) == 48
    layers = tables["example"]
    assert layers[0][:6] == ["0", "Conv(30, kernel=5)", "900", "5.21 %", "60.0 k", "20.0 k"]
    environment = dict(tables["Environment"])
    assert environment == {name: str(value) for name, value in study_rows.ENVIRONMENT.items()}


def test_where_one_side_always_wins_the_table_says_which(tmp_path):
    rows = [row | {"dense_seconds": 1.0 if row["network"] else 1e-9} for row in study_rows.sparsity_rows(batches=(1,))]
    report(rows, tmp_path / "a.html")
    found = [(row[0] != "", *row[1:3]) for row in tables_of((tmp_path / "a.html").read_text())["Crossovers"]]
    sides = {True: "none: event-driven is quicker", False: "none: dense is quicker"}
    assert found == [(published, sides[published], "0.3 % to 100 %") for published in (True, True, False, False)]


def test_the_command_is_the_rows_or_the_one_given(tmp_path):
    rows = study_rows.tradeoff_rows()
    for command, expected in (
        (None, study_rows.COMMAND),
        ("eventsnn study <x> & y", "eventsnn study &lt;x&gt; &amp; y"),
    ):
        report(rows, tmp_path / "a.html", command=command, title="A <title>")
        text = (tmp_path / "a.html").read_text()
        assert f"<pre><code>{expected}</code></pre>" in text
        assert "<h1>A &lt;title&gt;</h1>" in text


def test_rows_of_an_unknown_study_and_several_environments(tmp_path):
    other = study_rows.common("own", 0) | {"speed": 3.5, "environment": study_rows.ENVIRONMENT | {"cpus": 64}}
    report([other, *study_rows.profile_rows()], tmp_path / "a.html")
    tables = tables_of((tmp_path / "a.html").read_text())
    assert tables["All 1 rows"] == [["own0000", "0", "3.5"]]
    assert ["cpus", "64", "2"] in tables["Environment"]


def test_a_study_without_layers_to_fit_or_seeds(tmp_path):
    rows = [row for row in study_rows.sparsity_rows(batches=(32,)) if row["held_out"]]
    report(rows + study_rows.tradeoff_rows(seeds=(0,)), tmp_path / "a.html")
    text = (tmp_path / "a.html").read_text()
    assert "Cost model" not in text
    assert tables_of(text)["Pareto front of accuracy and spikes"][0][6].count("%") == 1


def test_report_refuses(tmp_path):
    with pytest.raises(ValueError, match="at least one row, got none"):
        report([], tmp_path / "a.html")
    with pytest.raises(ValueError, match="key 'study', found one without"):
        report([{"seconds": 1}], tmp_path / "a.html")
    for rows, name in ((study_rows.sparsity_rows(), "density"), (study_rows.scaling_rows(), "clock")):
        broken = [{key: value for key, value in row.items() if key != name} for row in rows]
        with pytest.raises(ValueError, match=f"row 0 of the study {rows[0]['study']} expects .*; {name} is missing"):
            report(broken, tmp_path / "a.html")
    assert not list(tmp_path.iterdir())


def test_without_plotly_one_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly", None)
    for call in (check, lambda: report(study_rows.profile_rows(), tmp_path / "a.html")):
        with pytest.raises(ModuleNotFoundError, match=r"expects plotly, .* pip install 'eventsnn\[report\]'"):
            call()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 s"), (1, "1.00 s"), (999.6, "1.00 ks"), (0.00123, "1.23 ms"), (4.56e-5, "45.6 µs"), (9.996e-4, "1.00 ms")],
)
def test_quantities_have_three_digits(value, text):
    assert si(value, "s") == text


def test_tables_escape_and_align():
    found = table(["a<b"], [["<script>", 3, None, "1.5 ms", "2x3"]])
    assert "<th scope=col>a&lt;b</th>" in found
    assert "<td>&lt;script&gt;</td><td class=n>3</td><td></td><td class=n>1.5 ms</td><td>2x3</td>" in found


@pytest.mark.parametrize("ends", [(2e-6, 2e-2), (200e6, 210e6), (1.0, 1.0), (0.003, 1), (3, 30)])
def test_axes_have_few_round_ticks(ends):
    axis = figures._axis("a", ends, figures.seconds, log=True)
    low, high = (10**end for end in axis["range"])
    shown = [tick for tick in axis["tickvals"] if low <= tick <= high]
    assert 2 <= len(shown) <= 8
    assert low < ends[0] <= ends[1] < high


def test_the_command_makes_a_report(tmp_path, call, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = partial(call, "study", "scaling", "settings.toml", "-o", "rows.jsonl", "--report")
    (tmp_path / "settings.toml").write_text(
        "sizes = [8, 9]\nmaps = []\nevents = []\nthreads = []\ndevices = []\nsize = 70\n"
    )
    code, _, err = study("none/a.html")
    assert code == 1
    assert "none" in err
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "plotly", None)
        code, _, err = study("a.html")
    assert code == 2
    assert "--report: a report expects plotly" in err
    assert [path.name for path in tmp_path.iterdir()] == ["settings.toml"]  # nothing was measured
    _, said, err = study("a.html")
    assert said.splitlines()[-1] == "Written: a.html", err
    text = (tmp_path / "a.html").read_text()
    command = re.search(r"<pre><code>(.*?)</code></pre>", text)[1].replace("--out", "-o").split()
    assert command[:3] == ["eventsnn", "study", "scaling"]
    assert sorted(command[3:]) == sorted(["settings.toml", "-o", "rows.jsonl", "--report", "a.html"])
    rows = read(tmp_path / "rows.jsonl")
    assert figures_of(text)["scaling-0"][""]["data"][0]["y"] == [row["seconds"] for row in rows]


# In a browser


@pytest.fixture(scope="module")
def browser():
    names = [os.environ.get("EVENTSNN_CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome"]
    found = next((path for name in names if name and (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no chromium, chromium-browser or google-chrome is installed; EVENTSNN_CHROMIUM may name one")
    return found


def rendered(browser, page, folder, width=1280):
    """Return the page as a browser has it after its scripts have run, and what these wrote to the console."""
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}", f"--window-size={width},900"]
    options += ["--virtual-time-budget=15000", "--enable-logging=stderr", "--v=0", "--dump-dom"]
    run = subprocess.run([browser, *options, page.as_uri()], capture_output=True, text=True, timeout=300, check=True)
    return run.stdout, [line for line in run.stderr.splitlines() if "CONSOLE" in line]


def test_a_browser_draws_the_report_without_an_error(browser, page, tmp_path):
    dom, console = rendered(browser, page, tmp_path)
    assert console == []
    assert '<svg class="main-svg"' not in page.read_text()
    plots = dict(re.findall(r'<div class="?plot[^>]*? id="([\w-]+)"(.*?)<figcaption>', dom, re.DOTALL))
    assert len(plots) == len(figures_of(page.read_text()))
    assert all("main-svg" in part for part in plots.values())
    # The crossover that is written into the first figure, which shows the first network of the list.
    crossings = cost.crossovers(study_rows.sparsity_rows())
    known = next(c["density"] for c in crossings if c["network"] == "mozafari2019_mnist")
    (text,) = re.findall(r"<text[^>]*>crossover ([^<]*)</text>", plots["sparsity-0"])
    assert text == percent(known)
    assert float(text.split()[0]) == pytest.approx(5.5, rel=0.1)  # what the rows were made from, between two densities
    # A mark for each run and side, and ticks as the tables write times.
    assert plots["sparsity-0"].count('class="point"') == 2 * 2 * len(study_rows.DENSITIES)
    assert re.search(r"<text[^>]*>100 µs</text>", plots["sparsity-0"])


def test_a_browser_says_what_is_wrong_on_the_console(browser, page, tmp_path):
    broken = tmp_path / "broken.html"
    broken.write_text(page.read_text().replace('id="sparsity-0-data"', 'id="nothing"'))
    _, console = rendered(browser, broken, tmp_path / "profile")
    assert len(console) == 1
    assert "TypeError" in console[0]


def test_no_text_of_rows_becomes_markup(browser, tmp_path):
    evil = '"><img src=x onerror="console.error(1)"></script><script>console.error(2)</script><b>'
    rows = [
        {key: evil if isinstance(value, str) and key != "study" else value for key, value in row.items()}
        for row in study_rows.all_rows()
    ]
    for row in rows:
        row["environment"] = {evil: evil}
        row["shape"] = evil
    page = tmp_path / "evil.html"
    report(rows, page, title=evil, command=evil)
    dom, console = rendered(browser, page, tmp_path / "profile")
    assert console == []
    assert "<img" not in dom
