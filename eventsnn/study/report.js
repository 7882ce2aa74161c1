"use strict";
// Draws every figure from the values beside it, in the colours of the page, and again when these change.
(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const lighter = { "#0072B2": "#4DA3DB", "#D55E00": "#F08A3C", "#009E73": "#2FC79A" };
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function values(place) {
    let text = document.getElementById(place.id + "-data").textContent;
    if (dark.matches) for (const [from, to] of Object.entries(lighter)) text = text.replaceAll(from, to);
    return JSON.parse(text);
  }

  function styled(given, narrow) {
    const axis = (known) => ({
      gridcolor: color("--grid"), linecolor: color("--line"), zerolinecolor: color("--line"), ticks: "outside",
      tickcolor: color("--line"), showline: true, automargin: true, ...known,
      title: { standoff: 8, ...known.title, font: { size: 13 } },
    });
    const legends = { orientation: "h", x: 0, xanchor: "left", y: 1.02, yanchor: "bottom", font: { size: 12 } };
    return {
      ...given, xaxis: axis(given.xaxis), yaxis: axis(given.yaxis), legend: legends,
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", autosize: true,
      margin: { l: narrow ? 48 : 64, r: 12, t: 12, b: 48 }, hovermode: "closest", bargap: 0.25,
      font: { family: getComputedStyle(document.body).fontFamily, size: narrow ? 11 : 12, color: color("--ink") },
      hoverlabel: { bgcolor: color("--card"), bordercolor: color("--line"), font: { color: color("--ink") }, align: "left" },
    };
  }

  function draw(place) {
    const choices = values(place);
    const select = document.querySelector(`select[data-for="${place.id}"]`);
    const chosen = choices[select ? select.value : Object.keys(choices)[0]];
    const layout = styled(chosen.layout, place.clientWidth < 520);
    place.style.minHeight = layout.height + "px";
    Plotly.react(place, chosen.data, layout, { responsive: true, displaylogo: false, displayModeBar: false });
  }

  const places = [...document.querySelectorAll(".plot")];
  const all = () => places.forEach(draw);
  for (const select of document.querySelectorAll("select")) {
    select.addEventListener("change", () => draw(document.getElementById(select.dataset.for)));
  }
  dark.addEventListener("change", all);
  all();
})();
