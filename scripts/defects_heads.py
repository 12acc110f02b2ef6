"""Defects in what terms of a loss ask for, and in their heads on the encoder."""

from defects import Defect

SUM, OUTPUTS = "tests/losses/test_weighted_sum.py", "tests/methods/test_outputs.py"
EDGES, CONTRAST = "tests/losses/test_semantic_boundaries.py", "tests/losses/test_boundary_contrast.py"
SUBSPACES = "tests/losses/test_dynamic_subspaces.py"

# fmt: off
TABLE = (
    Defect(
        "finest-at-every-level", "a term of the finest level sees no other", "medseg/losses/weighted_sum.py",
        "if place == 0 or not only}", "}",
        (f"{SUM}::test_a_term_of_the_finest_level_sees_no_other",),
    ),
    Defect(
        "heads-do-not-learn", "parameters of terms learn whatever tunes the network", "medseg/methods/method.py",
        "for group in self.tuning.groups(one)), *self._heads()]", "for group in self.tuning.groups(one))]",
        (f"{OUTPUTS}::test_parameters_of_terms_learn_whatever_tunes_the_network",),
    ),
    Defect(
        "hook-stays", "the hook on the encoder leaves with its context", "medseg/methods/outputs.py",
        "handle.remove()", "pass",
        (f"{OUTPUTS}::test_the_hook_leaves_with_its_context",),
    ),
    Defect(
        "boundary-next-to-unknown", "next to cells that do not count a boundary is not known",
        "medseg/losses/semantic_boundaries.py",
        "(boundary | ~unknown) & counted[:, None]", "counted[:, None].expand_as(boundary)",
        (f"{EDGES}::test_next_to_cells_that_do_not_count_a_boundary_is_not_known",),
    ),
    Defect(
        "boundaries-weigh-as-others", "few cells of boundaries weigh as much as all others",
        "medseg/losses/semantic_boundaries.py",
        "((1 - share) * on + share * off)", "(on + off)",
        (f"{EDGES}::test_value_by_hand",),
    ),
    Defect(
        "own-class-is-against", "features of the own class are not against an anchor",
        "medseg/losses/boundary_contrast.py",
        "(~of_class & stored).flatten(1)", "stored.expand(len(classes), -1, -1).flatten(1)",
        (f"{CONTRAST}::test_value_by_hand",),
    ),
    Defect(
        "average-of-the-other-share", "the second encoder is the average", "medseg/losses/boundary_contrast.py",
        "now.detach(), 1 - self.momentum", "now.detach(), self.momentum",
        (f"{CONTRAST}::test_the_second_encoder_is_the_average",),
    ),
    Defect(
        "sets-of-regions-as-classes", "a set of regions is no class", "medseg/losses/boundary_contrast.py",
        "at_label.masked_fill(at_label >= len(self.members), IGNORE)", "at_label",
        (f"{CONTRAST}::test_patches_that_do_not_annotate_every_region_have_no_anchors",),
    ),
    Defect(
        "memory-does-not-move-on", "the oldest leave the memory", "medseg/losses/boundary_contrast.py",
        "(self.place[number] + len(own)) % size", "self.place[number] * 1",
        (f"{CONTRAST}::test_the_oldest_leave_the_memory",),
    ),
    Defect(
        "no-attention", "a bag is weighted by attention", "medseg/losses/dynamic_subspaces.py",
        "weight = self.attention(one).movedim(1, -1)[cells]",
        "weight = torch.ones_like(self.attention(one).movedim(1, -1)[cells])",
        (f"{SUBSPACES}::test_a_bag_is_the_mean_of_its_cells_weighted_by_attention",),
    ),
    Defect(
        "important-numbers-leave", "important numbers stay with their learner", "medseg/losses/dynamic_subspaces.py",
        "leave[last] = ~staying(", "leave[last] = staying(",
        (f"{SUBSPACES}::test_a_learner_is_divided_where_the_score_no_longer_rises",),
    ),
    Defect(
        "learners-at-once", "a learner is added after a better score", "medseg/losses/dynamic_subspaces.py",
        "bool(self.improved) and int(self.waited)", "int(self.waited)",
        (f"{SUBSPACES}::test_no_learner_is_added",),
    ),
    Defect(
        "bags-train-every-learner", "a bag trains its learner", "medseg/losses/dynamic_subspaces.py",
        "        if together:\n", "        if True:\n",
        (f"{SUBSPACES}::test_a_bag_trains_the_learner_of_the_nearest_centre_and_all_numbers_at_the_end",),
    ),
    Defect(
        "background-of-the-rest", "background of partial labels is in no bag", "medseg/losses/dynamic_subspaces.py",
        "counted & (whole | (at_label != 0))", "counted & (whole | (at_label >= 0))",
        (f"{SUBSPACES}::test_cells_that_do_not_count_are_in_no_bag",),
    ),
    Defect(
        "pairs-of-two-attract", "pairs of two classes go apart", "medseg/losses/dynamic_subspaces.py",
        "(_BORDER + _MARGIN - distance).relu()", "(distance - _BORDER + _MARGIN).relu()",
        (f"{SUBSPACES}::test_pairs_by_hand",),
    ),
)
