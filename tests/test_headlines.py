"""The numbers in README's table of results are those of the committed JSON.

A row names its source in the first cell. Here each number of its third cell has the result that it comes from: a row of
its table (`ours`), or the left side of a claim; after `>` another part of these; `minus` and `exp` as they say.
"""

import json
import math
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TABLE = (ROOT / "README.md").read_text().split("| source | claim | this code")[1].split("\n\n")[0]
ROWS = {}
for line in TABLE.splitlines()[2:]:
    source, _, told, _ = (cell.strip() for cell in line.strip("|").split("|"))
    ROWS[source] = told

HEADLINES = {
    "Figure 2.6": {
        "ch02_marginal_likelihood_convergence": {
            "-144.0": "AEVB, N = 1000, test",
            "-149.1": "wake-sleep, N = 1000, test",
            "-135.7": "AEVB, N = 50000, test",
            "-143.1": "wake-sleep, N = 50000, test",
        },
    },
    "2.9.1": {
        "ch02_challenges_collapse": {
            "2.6": "plain bound, 12 epochs: test bound from the annealed model less that from q = p",
            "0.65": "plain, long, from q = p, KL",
            "6.6": "plain, long, from annealed, KL",
            "0.08": "plain bound from q = p: KL after the last epoch against that after the first > right",
        },
    },
    "5, first sentence": {
        "ch02_posterior_full_covariance": {
            "0.45": "10 latents, one decoder: bound with full covariance less bound without, encoders",
            "0.05": "10 latents, one decoder: bound with full covariance less bound without, encoders > standard_error",
            "0.01": "2 latents, one decoder: bound with full covariance less bound without, encoders",
        },
    },
    "2.10.1": {
        "ch02_gradients_score_function": {
            "222": "50 latents, at initialisation: with control variate / reparameterised, path only",
            "80": "50 latents, after 3 epochs: with control variate / reparameterised, path only",
        },
        "ch02_gradients_regression": {
            "0.4": "1 coefficients, after fitting: with control variate / reparameterised",
            "47": "100 coefficients, at the prior: with control variate / reparameterised",
        },
    },
    "tighter-bounds report, 3.3": {
        "report_tighter_bounds_gradients_snr": {
            "-0.50": "encoder over K, plain",
            "+0.50": "decoder over K",
            "-0.08": "mnist network, encoder over K, plain",
            "+0.10": "mnist network, decoder over K",
        },
    },
    "review report 5": {
        "report_review_comparison": {
            "9.2": "RWS is above NVIL in log p-hat by, nats",
            "7.0": "VIMCO is above NVIL in log p-hat by, nats",
        },
    },
    "refinement report, Table 1": {
        "report_refinement_table_1": {
            "-117.1": "- GBVI-20, bound, negative",
            "-148.7": "- VAE, bound, negative",
            "15": "gamma 0.1: gain of the bound, steps from 0 to 20",
            "22": "gamma 0.03: gain of the bound, steps from 0 to 20",
        },
    },
    "thesis 3.4.1.1, Table 3.1": {
        "ch03_semi_supervised_table_3_1": {
            "4.32": "100 labels: M1+M2",
            "3.87": "600 labels: M1+M2",
            "3.97": "1000 labels: M1+M2",
            "3.84": "3000 labels: M1+M2",
            "11.8": "- 100 labels: M1+M2 less M1+label spreading, the best of the others, points of error",
            "1.7": "- 600 labels: M1+M2 less M1+self-training SVM, the best of the others, points of error",
            "0.9": "- 1000 labels: M1+M2 less M1+self-training SVM, the best of the others, points of error",
            "0.2": "3000 labels: M1+M2 less M1+SVM, the best of the others, points of error",
        },
    },
    "Table 3.1": {
        "ch03_semi_supervised_table_3_1": {
            "41.0": "100 labels: M2",
            "20.6": "3000 labels: M2",
        },
    },
    "3.4.1.1": {
        "ch03_semi_supervised_table_3_1": {
            "4.32": "100 labels: M1+M2",
            "3.87": "600 labels: M1+M2",
            "3.97": "1000 labels: M1+M2",
            "3.84": "3000 labels: M1+M2",
        },
        "ch03_semi_supervised_cnn": {
            "22.98": "100 labels: CNN > published",
            "3.35": "3000 labels: CNN > published",
            "9.90": "100 labels: CNN",
            "3.99": "600 labels: CNN",
            "3.12": "1000 labels: CNN",
            "1.85": "3000 labels: CNN",
        },
    },
    "Table 6.1": {
        "ch06_dropout_table_6_1": {
            "160": "top layer, 10 epochs: no dropout noise",
            "1,121": "top layer, 10 epochs: local reparameterization",
            "2,328": "top layer, 10 epochs: sample per data point",
            "4,202": "top layer, 10 epochs: sample per minibatch",
            "1.7": "exp top layer, 10 epochs: log per data point over local",
            "2.3": "exp top layer, 100 epochs: log per data point over local",
            "1.3": "exp bottom layer, 10 epochs: log per data point over local",
            "2.5": "exp bottom layer, 100 epochs: log per data point over local",
        },
    },
    "Figure 6.1 (a)": {
        "ch06_dropout_figure_6_1": {
            "2.55": "50 units: variational A",
            "4.94": "50 units: Gaussian A",
            "2.96": "50 units: variational B",
            "3.30": "50 units: Gaussian B",
            "5.39": "50 units: binary",
            "1.36": "400 units: variational A",
            "1.76": "400 units: Gaussian A",
            "1.48": "400 units: variational B",
            "1.41": "400 units: Gaussian B",
            "1.68": "400 units: binary",
        },
    },
    "thesis 4.1.1": {
        "ch04_layers_directions": {
            "1.6": "2 layers, shared: epochs to a given bound, less those of bottom-up",
            "0.6": "- 2 layers, shared: bound at the end less that of bottom-up, nats",
            "0.1": "2 layers, precision: epochs to a given bound, less those of bottom-up",
            "0.06": "- 2 layers, precision: bound at the end less that of bottom-up, nats",
            "0.19": "2 layers, precision: bound at the end less that of bottom-up, nats > standard_error",
            "0.9": "- 2 layers, precision: epochs to a given bound, less those of separate",
        },
    },
    "5.2.1": {
        "ch05_auxiliary_digits": {
            "0.45": "20 latents: gain of u in bound, nats",
            "0.12": "20 latents: gain of u in bound, nats > standard_error",
            "0.24": "20 latents: gain of u in log p-hat, nats",
            "0.11": "20 latents: gain of u in log p-hat, nats > standard_error",
        },
    },
    "5, 5.7": {
        "ch05_flows_vae": {
            "4.45": "Gaussian, log p-hat - bound",
            "4.11": "planar, log p-hat - bound",
            "4.21": "radial, log p-hat - bound",
            "3.86": "NICE, log p-hat - bound",
            "3.84": "Real NVP, log p-hat - bound",
            "3.72": "IAF, log p-hat - bound",
            "1.6": "IAF, bound minus Gaussian, bound",
            "0.9": "IAF's log p-hat less the Gaussian's, nats",
        },
    },
    "8": {
        "ch05_flows_combined": {
            "2.61": "Gaussians alone",
            "2.29": "flow: all three",
            "2.64": "autoregressive Gaussian",
        },
    },
    "Table 5.1, fully connected": {
        "ch05_iaf_table": {
            "4.56": "mnist: diagonal, log p-hat - bound",
            "4.35": "mnist: full covariance, log p-hat - bound",
            "4.23": "mnist: planar, depth 4, log p-hat - bound",
            "3.75": "mnist: IAF, depth 4, width 320, log p-hat - bound",
            "-107.6": "mnist: diagonal, bound",
            "-107.7": "mnist: full covariance, bound",
            "-106.5": "mnist: planar, depth 4, bound",
            "-105.2": "mnist: IAF, depth 4, width 320, bound",
        },
    },
    "Table 5.1, its own network": {
        "ch05_iaf_convolutional": {
            "-94.3": "IAF, depth 2, width 320, bound",
            "-95.1": "diagonal, bound",
            "-88.8": "IAF, depth 2, width 320, log p-hat",
            "-89.3": "diagonal, log p-hat",
            "5.58": "IAF, depth 2, width 320, gap",
            "5.78": "diagonal, gap",
            "0.2": "IAF, depth 2, width 320, gap below that of the diagonal, nats > standard_error",
        },
    },
    "5.7, 5.B.3, 4.1.1": {
        "ch05_resnet_posteriors": {
            "0.13": "- bottom-up, 1 hidden layer, gated less bottom-up, factorised, gated",
            "0.14": "- bidirectional, 1 hidden layer, gated less bidirectional, factorised, gated",
            "0.06": "- bottom-up: location alone less location and scale, bits/dim, at most the largest of Table 5.B.1",
            "0.02": "- bidirectional: location alone less location and scale, bits/dim, "
            "at most the largest of Table 5.B.1",
            "0.03": "bidirectional, 1 hidden layer, gated: bits per dimension less those of bottom-up, "
            "1 hidden layer, gated > standard_error",
        },
    },
    "Table 5.2, 5.6.2.2": {
        "ch05_resnet_table_5_2": {
            "5.07": "ResNet VAE with IAF",
            "4.47": "NICE",
            "4.50": "Real NVP",
            "4.01": "PixelCNN-like",
            "4.06": "Gaussian, full covariance",
            "16": "synthesis, PixelCNN, naive",
        },
    },
    "5.B.8": {
        "ch05_resnet_free_bits": {
            "0.01": "lambda 2: gain over 0, bits/dim > standard_error",
            "86": "lambda 2: nats of the least used layer above those at lambda 0",
            "14": "lambda 2: nats of the least used layer above those at lambda 0 > right",
        },
    },
    "Figure 7.1": {
        "ch07_experiments_bias_correction": {
            "106.7": "beta1 0.9, beta2 0.9999, corrected",
            "109.9": "beta1 0.9, beta2 0.9999, not corrected",
        },
    },
    "7.5.1": {
        "ch07_experiments_logistic": {
            "0.2545": "mnist, Adam, loss over the run",
            "0.2547": "mnist, AdaGrad, loss over the run",
            "0.2575": "mnist, SGD Nesterov, loss over the run",
        },
    },
    "7.5.3, Figure 7.3": {
        "ch07_experiments_cnn": {
            "1.44": "dropout, Adam, loss in epoch 6",
            "1.79": "dropout, SGD Nesterov, loss in epoch 6",
            "1.68": "dropout, AdaGrad, loss in epoch 6",
        },
    },
}
# Decimals that are settings, and rows whose numbers are settings alone.
SETTINGS = {"Figure 7.1": {"0.9999"}}
NONE = {"thesis Figure 2.5"}


def looked_up(about, reference):
    """The number of a result, its JSON ``about``, that a reference means."""
    if " minus " in reference:
        first, second = reference.split(" minus ")
        return looked_up(about, first) - looked_up(about, second)
    if reference.startswith("- "):
        return -looked_up(about, reference[2:])
    if reference.startswith("exp "):
        return math.exp(looked_up(about, reference[4:]))
    label, _, part = reference.partition(" > ")
    rows = [row[part or "ours"] for row in about["table"] if row["what"] == label and part in ("", "published")]
    found = rows or [claim[part or "left"] for claim in about["claims"] if claim["label"] == label]
    assert len(found) == 1, f"{len(found)} rows or claims are {label!r}"
    return found[0]


@pytest.mark.parametrize("source", ROWS)
def test_headlines_are_those_of_the_json(source):
    told, known = ROWS[source], SETTINGS.get(source, set())
    for name, numbers in HEADLINES.get(source, {}).items():
        about = json.loads((ROOT / "figures" / f"{name}.json").read_text())
        for number, reference in numbers.items():
            assert re.search(rf"(?<![\d.]){re.escape(number)}(?![\d]|\.\d)", told), f"{number} is not in README"
            places = len(number.partition(".")[2])
            assert float(number.replace(",", "")) == round(looked_up(about, reference), places), reference
        known = known | set(numbers)
    assert known or source in NONE
    decimals = set(re.findall(r"[+-]?\d+\.\d+", told))
    assert decimals <= known, "numbers without the result that they come from"
