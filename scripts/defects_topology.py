"""Defects in losses of distance, topology, connectivity and hierarchy, and in what counts and matches features."""

from defects import Defect

LOSSES = "tests/losses"
CLDICE, HIERARCHY = f"{LOSSES}/test_cldice.py", f"{LOSSES}/test_hierarchy.py"
LOGIC = f"{LOSSES}/test_logic.py"

# fmt: off
TABLE = (
    Defect(
        "boundary-at-full-weight", "the boundary loss rises over the training", "medseg/losses/boundary.py",
        "(1 - self.start) * progress", "(1 - self.start)",
        (f"{LOSSES}/test_boundary.py::test_weight_rises_with_the_training",),
    ),
    Defect(
        "margin-is-a-boundary", "cells that do not count are no boundary", "medseg/losses/distance.py",
        "outside = (~mask & counted[:, None])", "outside = (~mask)",
        (f"{LOSSES}/test_distance.py::test_cells_that_do_not_count_are_no_boundary",),
    ),
    Defect(
        "distance-in-cells", "distances are in the unit of the spacing", "medseg/losses/distance.py",
        "anisotropy=steps", "anisotropy=(1.0,) * cells.ndim",
        (f"{LOSSES}/test_distance.py::test_signed_distance_equals_scipy_in_unequal_cells",),
    ),
    Defect(
        "hausdorff-of-the-label", "errors far from the prediction cost more too", "medseg/losses/hausdorff.py",
        "(to_pred + to_label)", "(2 * to_label)", (f"{LOSSES}/test_hausdorff.py::test_equals_monai",),
    ),
    Defect(
        "skeleton-of-cubes", "a soft skeleton is eroded by a cross", "medseg/losses/cldice.py",
        "-reduce(torch.maximum, (_largest(inverse, line) for line in lines))", "-_largest(inverse, (3,) * ndim)",
        (f"{CLDICE}::test_skeleton_equals_numpy_and_monai",),
    ),
    Defect(
        "cldice-without-recall", "clDice covers the labelled skeleton", "medseg/losses/cldice.py",
        "precision, recall = hit / length, covered / labelled", "precision, recall = hit / length, hit / length",
        (f"{CLDICE}::test_worked_by_hand",),
    ),
    Defect(
        "lines-shrink", "thinning leaves the ends of lines", "medseg/topology/thinning.py",
        "(around.sum(dim=1) > 1) & ", "", ("tests/topology/test_thinning.py::test_drawn_shapes",),
    ),
    Defect(
        "thinning-tears", "thinning changes no topology", "medseg/topology/thinning.py",
        "return one_part & ", "return ", ("tests/topology/test_thinning.py",),
    ),
    Defect(
        "tube-leaves-the-label", "a tube lies inside the label", "medseg/losses/skeleton_recall.py",
        "padding=radius) > 0) & target", "padding=radius) > 0)",
        (f"{LOSSES}/test_skeleton_recall.py::test_tube_is_around_the_centreline_and_inside_the_label",),
    ),
    Defect(
        "either-is-connected", "two cells are connected if both belong", "medseg/losses/connectivity.py",
        "joint = target[here] & target[there]", "joint = target[here] | target[there]",
        (f"{LOSSES}/test_connectivity.py::test_worked_by_hand",),
    ),
    Defect(
        "pairs-across-faces", "pairs across corners count", "medseg/losses/connectivity.py",
        "(corners or sum(map(abs, offset)) == 1)", "sum(map(abs, offset)) == 1",
        (f"{LOSSES}/test_connectivity.py::test_equals_a_loop_over_all_pairs",),
    ),
    Defect(
        "missed-features-free", "features of the label alone cost", "medseg/losses/betti_matching.py",
        "alone = torch.cat([false, missed])", "alone = false",
        (f"{LOSSES}/test_betti_matching.py::test_perfect_prediction_costs_nothing_and_an_empty_one_half",),
    ),
    Defect(
        "first-component-free", "the first component is matched by place", "medseg/topology/matching.py",
        "    padded[0] = 1\n", "",
        ("tests/topology/test_matching.py::test_drawn_shapes_are_matched_by_hand",),
    ),
    Defect(
        "matching-of-the-rest", "components are of the cells above the threshold", "medseg/topology/matching.py",
        "np.ascontiguousarray(1 - padded)", "np.ascontiguousarray(padded)",
        ("tests/topology/test_matching.py::test_features_are_those_of_gudhi",),
    ),
    Defect(
        "holes-across-faces", "what lies outside is connected across corners", "medseg/topology/betti.py",
        "ndimage.label(outside, structure=np.ones((3,) * mask.ndim))", "ndimage.label(outside)",
        ("tests/topology/test_betti.py::test_drawn_shapes_are_counted_by_hand",),
    ),
    Defect(
        "betti-error-of-signs", "surplus holes do not balance missing components", "medseg/metrics/betti_error.py",
        "sum(abs(ours - theirs) for ours, theirs in pairs)", "abs(sum(ours - theirs for ours, theirs in pairs))",
        ("tests/metrics/test_betti_error.py::test_numbers_counted_by_hand",),
    ),
    Defect(
        "metric-without-library", "a metric without its library is refused at once", "medseg/metrics/registry.py",
        "        metric.check()\n", "        pass\n",
        ("tests/metrics/test_betti_error.py::test_missing_library_is_named_with_the_configuration",),
    ),
    Defect(
        "groups-weigh-alike", "groups weigh less than classes", "medseg/losses/hierarchical_cross_entropy.py",
        "decay**height", "1.0",
        (f"{LOSSES}/test_hierarchical_cross_entropy.py::test_worked_by_hand",),
    ),
    Defect(
        "rule-of-the-parent", "a child implies its parent", "medseg/losses/logic.py",
        "score[:, node] * (1 - score[:, parent])", "score[:, parent] * (1 - score[:, node])",
        (f"{LOGIC}::test_rules_by_hand",),
    ),
    Defect(
        "children-all-implied", "a parent implies one child", "medseg/losses/logic.py",
        "score[:, children].amax(dim=1)", "score[:, children].amin(dim=1)",
        (f"{LOGIC}::test_a_certain_cell_breaks_no_rule",),
    ),
    Defect(
        "tree-max", "a node holds the least of what is above it", "medseg/losses/logic.py",
        "least = [logits[:, above].amin(dim=1)", "least = [logits[:, above].amax(dim=1)",
        (f"{LOGIC}::test_tree_min_by_hand",),
    ),
    Defect(
        "matching-dilutes", "a structure that no image annotates has no part", "medseg/losses/betti_matching.py",
        "shown = structures.annotated[:, self.structures]", "pass",
        (f"{LOSSES}/test_betti_matching.py::"
         "test_a_structure_that_an_image_does_not_annotate_has_no_part_in_the_mean",),
    ),
    Defect(
        "nodes-dilute", "nodes that an image does not annotate have no part", "medseg/losses/logic.py",
        "None, annotated=nodes, gather=self.training", "None, gather=self.training",
        (f"{LOGIC}::test_what_a_patch_does_not_annotate_has_no_part_in_the_mean",),
    ),
    Defect(
        "rules-dilute", "rules of nodes that no image annotates have no part", "medseg/losses/logic.py",
        "None if annotated is None else sums[None, n:] > 0", "None",
        (f"{LOGIC}::test_rules_of_nodes_that_an_image_does_not_annotate_by_hand",),
    ),
    Defect(
        "group-known-by-a-class", "a group is known by all of its classes", "medseg/losses/logic.py",
        "(~annotated).float() @ self.nodes.T.float() == 0", "annotated.float() @ self.nodes.T.float() > 0",
        (f"{LOGIC}::test_a_group_of_which_a_class_is_not_annotated_is_left_out",),
    ),
    Defect(
        "two-parents", "a class has one parent", "medseg/losses/hierarchy.py",
        "if child in parent:", "if False:",
        (f"{HIERARCHY}::test_what_is_no_tree_is_refused_in_one_line",),
    ),
    Defect(
        "regions-not-divided", "a region that its children do not make up needs none", "medseg/losses/hierarchy.py",
        "self.children.any(dim=1) & (covered == self.members).all(dim=1)", "self.children.any(dim=1)",
        (f"{HIERARCHY}::test_tree_of_regions",),
    ),
)
