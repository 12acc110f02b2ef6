"""Defects in what terms of a loss ask for, and in their heads on the encoder."""

from defects import Defect

SUM, OUTPUTS = "tests/losses/test_weighted_sum.py", "tests/methods/test_outputs.py"
EDGES, CONTRAST = "tests/losses/test_semantic_boundaries.py", "tests/losses/test_boundary_contrast.py"

# fmt: off
TABLE = (
    Defect(
        "finest-at-every-level", "a term of the finest level sees no other", "medseg/losses/weighted_sum.py",
        "if place == 0 or not only}", "}",
        (f"{SUM}::test_a_term_of_the_finest_level_sees_no_other",),
    ),
    Defect(
        "heads-do-not-learn", "parameters of terms learn whatever tunes the network", "medseg/methods/method.py",
        "[*self.tuning.groups(self.network), *self._heads()]", "self.tuning.groups(self.network)",
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
        "memory-does-not-move-on", "the oldest leave the memory", "medseg/losses/boundary_contrast.py",
        "(self.place[number] + len(own)) % size", "self.place[number] * 1",
        (f"{CONTRAST}::test_the_oldest_leave_the_memory",),
    ),
)
