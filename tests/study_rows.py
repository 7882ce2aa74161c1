"""Rows as studies write them, from formulas: what comes of them is known."""

import math

ENVIRONMENT = {
    "date": "2026-03-01",
    "eventsnn": "0.1.0",
    "python": "3.12.1",
    "numpy": "2.1.0",
    "system": "Linux x86_64",
    "processor": "Example CPU @ 3 GHz",
    "cpus": 2,
    "threads": 2,
}
COMMAND = "eventsnn study sparsity --quick -o rows.jsonl"
DENSITIES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
LAYERS = (
    ("Conv(16, kernel=3, padding=1)", None, "2x24x24", None, False, 2e-6),
    ("Conv(50, kernel=5, padding=2)", "Pool(2)", "4x32x32", None, False, 9e-6),
    ("Conv(32, kernel=5, padding=2)", "Pool(2)", "6x28x28", "mozafari2019_mnist", True, 6e-6),
    ("Conv(150, kernel=2)", None, "16x8x8", "digits", True, 1e-6),
)


def common(study, number, **fields):
    config = {"number": number}
    about = {"study": study, "run": f"{study}{number:04}", "seed": 0, "config": config, "environment": ENVIRONMENT}
    return about | {"command": COMMAND} | fields


def sparsity_rows(batches=(1, 32)):
    """Return rows whose times grow by 2e-10 s with each operation.

    Dense takes as long as they do at a density of 5 % in the first layer, and 10 % more in each next one.
    """
    rows = []
    for i, (layer, pool, shape, network, held_out, scale) in enumerate(LAYERS):
        channels, height, width = (int(n) for n in shape.split("x"))
        sites = channels * height * width
        for batch in batches:
            for density in DENSITIES:
                operations = density * sites * 400 * (i + 1)
                seconds = scale + 2e-10 * operations
                equal = 0.05 * (1 + 0.1 * i)
                rows.append(
                    common("sparsity", len(rows))
                    | {"source": "synthetic", "layer": layer, "pool": pool, "shape": shape, "network": network}
                    | {"held_out": held_out, "kernel": "pool" if pool else "fire", "density": density, "bins": 15}
                    | {"batch": batch, "threads": 1, "backend": "cpu", "events": density * sites}
                    | {
                        "operations": operations,
                        "stopped": 0.0,
                        "additions": operations,
                        "listings": density * sites * 9,
                    }
                    | {
                        "spikes": 40.0 * density,
                        "sites": height * width,
                        "positions": height * width,
                        "macs": 15 * sites,
                    }
                    | {"seconds": seconds, "dense": "scipy 1.14.1"}
                    | {"dense_seconds": scale + 2e-10 * equal * sites * 400 * (i + 1)}
                )
    return rows


def tradeoff_rows(seeds=(0, 1, 2)):
    """Return rows whose accuracy falls with spikes saved; the setting with 40 bins is beaten by all."""
    rows = []
    settings = [(factor, 15) for factor in (0.6, 0.8, 1.0, 1.3, 1.8)] + [(1.0, 40)]
    for threshold, bins in settings:
        for seed in seeds:
            spikes = 900 / threshold + 5 * seed + 40 * (bins - 15)
            accuracy = 0.985 - 0.03 * math.log(threshold / 0.5) ** 2 + 0.002 * (seed - 1) - 0.004 * (bins - 15)
            rows.append(
                common("tradeoff", len(rows))
                | {"seed": seed, "dataset": "digits", "model": "digits", "threshold": threshold, "bins": bins}
                | {"config": {"threshold": threshold, "bins": bins, "seed": seed}}
                | {"winners": None, "inhibition": "pointwise", "accuracy": accuracy, "spikes": spikes}
                | {"spikes_by_layer": [0.7 * spikes, 0.3 * spikes], "operations": 150 * spikes}
                | {"energy": 150 * spikes * 0.9e-12, "dense_energy": 4e-6, "seconds": 8e-5, "train_seconds": 2.5}
            )
    return rows


def scaling_rows():
    rows = []
    for axis, values, clock in (
        ("size", (16, 32, 64, 128), "cpu"),
        ("maps", (8, 16, 32, 64), "cpu"),
        ("threads", (1, 2, 4), "wall"),
    ):
        for value in values:
            maps, size = (value if axis == "maps" else 32), (value if axis == "size" else 32)
            seconds = 1e-4 / value if axis == "threads" else 2e-6 * value ** (2 if axis == "size" else 1)
            rows.append(
                common("scaling", len(rows))
                | {"axis": axis, "value": value, "layer": f"Conv({maps}, kernel=5)", "shape": f"2x{size}x{size}"}
                | {"events": 4.0 * size, "seconds": seconds, "memory": 2e8 + 1e5 * value, "clock": clock}
            )
    return rows


def profile_rows():
    rows = []
    layers = (
        ("Conv(30, kernel=5)", 900, 60e3, 20e3, 6e6),
        ("Pool(2)", 500, 0, 0, 0),
        ("Conv(250, kernel=3)", 700, 2e6, 3e5, 9e7),
    )
    for i, (name, spikes, operations, stopped, macs) in enumerate(layers):
        rows.append(
            common("profile", i)
            | {"layer": i, "name": name, "network": "example", "shape": "30x24x24", "neurons": 17280, "samples": 100}
            | {"fused": not macs, "inputs": 1000.0, "spikes": float(spikes), "active": spikes / 17280}
            | {"operations": float(operations), "stopped": float(stopped), "macs": float(macs), "bytes_moved": 1e6}
            | {"seconds": 1e-4, "energy": operations * 0.9e-12, "dense_energy": macs * 4.6e-12}
            | {"additions_per_second": 1e9 if macs else None, "share_of_peak": 0.1 if macs else None}
            | {
                "times": list(range(16)),
                "spikes_over_time": [spikes / 15 * (1 + 0.5 * math.sin(t + i)) for t in range(15)],
            }
        )
    return rows


def all_rows():
    return [*sparsity_rows(), *tradeoff_rows(), *scaling_rows(), *profile_rows()]
