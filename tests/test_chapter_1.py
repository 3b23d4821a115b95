"""How chapter 1 judges its grids, and which images early stopping looks at."""

from helpers import study


def test_points_needed():
    """From there on all errors are small: one lucky grid does not count."""
    chapter = study("ch01_models.dlvm")
    assert chapter.needed([5, 10, 20, 40], [1.0, 0.05, 0.2, 0.01]) == 40
    assert chapter.needed([5, 10, 20], [1.0, 0.05, 0.01]) == 10
    assert chapter.needed([5, 10], [1.0, 0.2]) is None


def test_held_out_images_are_no_training_images():
    """Early stopping's images."""
    for budget in study("ch01_models.classifier").CLASSIFIER.values():
        size = {"digits": 1500, "mnist": 60000}[budget["data"]]
        assert max(budget["counts"]) + budget["validation"] <= size
