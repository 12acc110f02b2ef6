"""The same metrics of other packages, for scripts/check_metrics.py; each imports its package when it is called."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from metric_cases import Pair
from scipy import ndimage

from medseg.metrics.objects import match, overlaps_of
from medseg.metrics.surface import surface_distances

Peer = Callable[[Pair], float]
TOLERANCE = 1.0
"""Of the surface Dice, in mm."""


def _one_hot(pair: Pair) -> list[Any]:
    import torch

    return [torch.from_numpy(mask)[None, None].float() for mask in (pair.pred, pair.label)]


def _monai(name: str, *, swap: bool = False, **settings: Any) -> Peer:
    def value(pair: Pair) -> float:
        import monai.metrics

        masks = _one_hot(pair)
        spacing = {} if name in ("compute_dice", "compute_iou") else {"spacing": pair.spacing}
        compute = getattr(monai.metrics, name)
        return float(compute(*(masks[::-1] if swap else masks), include_background=True, **spacing, **settings))

    return value


def _monai_masd(pair: Pair) -> float:
    there, back = (_monai("compute_average_surface_distance", swap=swap)(pair) for swap in (False, True))
    return (there + back) / 2


def _deepmind(name: str, *settings: float) -> Peer:
    def value(pair: Pair) -> float:
        import surface_distance

        masks, spacing = [pair.label, pair.pred], pair.spacing
        surfaces = surface_distance.compute_surface_distances(*masks, spacing)
        result = getattr(surface_distance, name)(surfaces, *settings)
        return float(np.mean(result))

    return value


def _medpy(name: str) -> Peer:
    def value(pair: Pair) -> float:
        from medpy.metric import binary

        settings = {"voxelspacing": pair.spacing} if name in ("hd", "hd95", "assd") else {}
        return float(getattr(binary, name)(pair.pred, pair.label, **settings))

    return value


def _skimage_hd(pair: Pair) -> float:
    from skimage.metrics import hausdorff_distance

    if len(set(pair.spacing)) > 1:
        raise NotImplementedError("one spacing for all axes")
    cross = ndimage.generate_binary_structure(pair.label.ndim, 1)
    surfaces = [mask & ~ndimage.binary_erosion(mask, cross) for mask in (pair.label, pair.pred)]
    return float(hausdorff_distance(*surfaces)) * pair.spacing[0]


def _sklearn(name: str, **settings: Any) -> Peer:
    def value(pair: Pair) -> float:
        import sklearn.metrics

        return float(getattr(sklearn.metrics, name)(pair.label.ravel(), pair.pred.ravel(), **settings))

    return value


def _skimage_cldice(pair: Pair) -> float:
    from skimage.morphology import skeletonize

    of_pred, of_label = skeletonize(pair.pred) > 0, skeletonize(pair.label) > 0
    precision, recall = (of_pred & pair.label).sum() / of_pred.sum(), (of_label & pair.pred).sum() / of_label.sum()
    return float(2 * precision * recall / (precision + recall))


def _monai_panoptic(name: str) -> Peer:
    def value(pair: Pair) -> float:
        import torch
        from monai.metrics.panoptic_quality import compute_panoptic_quality

        maps = [torch.from_numpy(ndimage.label(mask)[0]) for mask in (pair.pred, pair.label)]  # across faces
        return float(compute_panoptic_quality(*maps, metric_name=name, smooth_numerator=0.0))

    return value


@cache
def _panoptica_evaluator() -> Any:
    import panoptica

    return panoptica.Panoptica_Evaluator(
        expected_input=panoptica.InputType.SEMANTIC,
        instance_approximator=panoptica.ConnectedComponentsInstanceApproximator(),
        instance_matcher=panoptica.NaiveThresholdMatching(),
    )


def _panoptica(name: str) -> Peer:
    def value(pair: Pair) -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            masks = [mask.astype(np.uint8) for mask in (pair.pred, pair.label)]
            result = _panoptica_evaluator().evaluate(*masks, verbose=False)["ungrouped"]
        return float(getattr(result, name))

    return value


SURFACE: dict[str, dict[str, Peer]] = {
    "hd": {
        "monai": _monai("compute_hausdorff_distance"),
        "surface-distance": _deepmind("compute_robust_hausdorff", 100),
        "medpy": _medpy("hd"),
        "scikit-image": _skimage_hd,
    },
    "hd95": {
        "monai": _monai("compute_hausdorff_distance", percentile=95),
        "surface-distance": _deepmind("compute_robust_hausdorff", 95),
        "medpy": _medpy("hd95"),
    },
    "assd": {"monai": _monai("compute_average_surface_distance", symmetric=True), "medpy": _medpy("assd")},
    "masd": {"monai": _monai_masd, "surface-distance": _deepmind("compute_average_surface_distance")},
    "nsd": {
        "monai": _monai("compute_surface_dice", class_thresholds=[TOLERANCE]),
        "surface-distance": _deepmind("compute_surface_dice_at_tolerance", TOLERANCE),
    },
}
OVERLAP: dict[str, dict[str, Peer]] = {
    "dice": {"monai": _monai("compute_dice"), "scikit-learn": _sklearn("f1_score"), "medpy": _medpy("dc")},
    "iou": {"monai": _monai("compute_iou"), "scikit-learn": _sklearn("jaccard_score"), "medpy": _medpy("jc")},
    "precision": {"scikit-learn": _sklearn("precision_score"), "medpy": _medpy("precision")},
    "recall": {"scikit-learn": _sklearn("recall_score"), "medpy": _medpy("recall")},
    "mcc": {"scikit-learn": _sklearn("matthews_corrcoef")},
    "accuracy": {"scikit-learn": _sklearn("accuracy_score")},
    "balanced_accuracy": {"scikit-learn": _sklearn("balanced_accuracy_score")},
}
SKELETON: dict[str, dict[str, Peer]] = {"cldice": {"scikit-image": _skimage_cldice}}
INSTANCE: dict[str, dict[str, Peer]] = {
    name: {"monai": _monai_panoptic(name), "panoptica": _panoptica(name)} for name in ("pq", "sq", "rq")
}


def _pooled_percentile(pair: Pair) -> float:
    return float(np.percentile(np.concatenate(surface_distances(pair.pred, pair.label, pair.spacing)), 95))


def _from_one_half(name: str) -> Peer:
    def value(pair: Pair) -> float:
        connectivity = "faces" if pair.label.ndim == 2 else "corners"
        objects = match(overlaps_of(pair.pred, pair.label, connectivity), 0, iou=0.5)
        matches, every = objects.hit.sum(), objects.counted.sum() + objects.right.sum() + objects.false.sum()
        iou = (objects.shared / objects.united)[objects.hit].sum()
        return float({"pq": 2 * iou / every, "sq": iou / max(1, matches), "rq": 2 * matches / every}[name])

    return value


RECOMPUTED: dict[tuple[str, str], Peer] = {
    ("medpy", "hd95"): _pooled_percentile,
    **{("panoptica", name): _from_one_half(name) for name in INSTANCE},
}
"""What a package computes instead, by our functions: these have to agree where the metrics do not."""


def _brier(prob: Any, label: Any) -> float:
    from sklearn.metrics import brier_score_loss

    return 2 * float(brier_score_loss(label.ravel(), prob[1].ravel()))


def _nll(prob: Any, label: Any) -> float:
    from sklearn.metrics import log_loss

    return float(log_loss(label.ravel(), prob[1].ravel()))


def _ece(prob: Any, label: Any) -> float:
    import torch
    from torchmetrics.functional.classification import multiclass_calibration_error

    flat = torch.from_numpy(prob.reshape(len(prob), -1).T.copy())
    return float(multiclass_calibration_error(flat, torch.from_numpy(label.ravel()), num_classes=len(prob), n_bins=15))


def _class_ece(prob: Any, label: Any) -> float:
    """By the means and shares of scikit-learn's calibration curve, weighted by the cells of its bins."""
    from sklearn.calibration import calibration_curve

    share, mean = calibration_curve(label.ravel(), prob[1].ravel(), n_bins=15)
    cells = np.histogram(prob[1], np.linspace(0, 1, 16))[0]
    return float((np.abs(share - mean) * cells[cells > 0]).sum() / cells.sum())


def _auc(prob: Any, label: Any) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(label.ravel(), prob[1].ravel()))


CALIBRATION: dict[str, dict[str, Callable[[Any, Any], float]]] = {
    "ece": {"torchmetrics": _ece},
    "class_ece": {"scikit-learn": _class_ece},
    "brier": {"scikit-learn": _brier},
    "nll": {"scikit-learn": _nll},
    "auc": {"scikit-learn": _auc},
}
