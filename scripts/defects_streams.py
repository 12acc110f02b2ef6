"""Defects in streams, views and teachers."""

from defects import Defect

VIEWS, TEACHER = "tests/transforms/test_views.py", "tests/methods/test_teacher.py"
STREAMS, WEIGHTED = "tests/factory/test_streams.py", "tests/data/sampling/test_weighted.py"
OTHER = "tests/factory/test_teacher.py"

# fmt: off
TABLE = (
    Defect(
        "streams-share-a-seed", "each stream has a seed of its own", "medseg/data/streams.py",
        "if name == MAIN:", "if name:",
        (f"{STREAMS}::test_each_stream_has_its_cases_rate_and_seed",),
    ),
    Defect(
        "named-cases-stay", "cases that a stream names leave the main one", "medseg/factory/streams.py",
        "if case.id not in taken]", "if case.id]",
        (f"{STREAMS}::test_cases_that_a_stream_names_leave_the_main_one",),
    ),
    Defect(
        "leaks-of-the-main-stream-only", "leaks are looked for in all streams", "medseg/factory/split.py",
        "train = _with_streams(train, source, others or {})", "train = list(train)",
        (f"{STREAMS}::test_leaks_are_looked_for_in_all_streams",),
    ),
    Defect(
        "unlabelled-stream-unused", "a stream that the method does not use is refused",
        "medseg/factory/stream_settings.py",
        'if without and method.unlabelled == "refused":', "if False:",
        (f"{STREAMS}::test_what_no_stream_can_be_is_one_line",),
    ),
    Defect(
        "views-forget-turns", "the map between views knows of turns", "medseg/transforms/views.py",
        "matrix = matrix @ powers", "matrix = matrix * 1",
        (f"{VIEWS}::test_mirrors_and_turns_copy_probabilities_and_exchange_sides",),
    ),
    Defect(
        "views-forget-sides", "the map between views exchanges left and right", "medseg/transforms/views.py",
        "flips[0][:, axis] != flips[1][:, axis]", "flips[0][:, axis] & False",
        (f"{VIEWS}::test_mirrors_and_turns_copy_probabilities_and_exchange_sides",),
    ),
    Defect(
        "views-show-what-is-not-there", "cells without a source have no value", "medseg/transforms/views.py",
        "(share > _WHOLLY)", "(share > -1)",
        (f"{VIEWS}::test_values_of_the_weak_view_lie_where_the_strong_view_shows_them",),
    ),
    Defect(
        "displacement-not-turned-back", "a bent strong view is carried through the weak one's inverse",
        "medseg/transforms/views.py",
        "back = torch.from_numpy(inverse).float()", "back = torch.eye(len(inverse))",
        (f"{VIEWS}::test_values_of_the_weak_view_lie_where_the_strong_view_shows_them",),
    ),
    Defect(
        "one-seed-for-both-views", "the strong view is drawn anew", "medseg/transforms/views.py",
        "np.column_stack([np.array(seeds, dtype=np.int64), rows[:, 1:]])", "rows",
        (f"{VIEWS}::test_views_are_functions_of_the_key",),
    ),
    Defect(
        "teacher-of-constant-decay", "the average begins as the mean of all states", "medseg/methods/teacher.py",
        "return min(decay, n / (n + 1))", "return decay",
        (TEACHER,),
    ),
    Defect(
        "teacher-forgets-its-count", "a resumed teacher continues its count", "medseg/methods/teacher.py",
        "self.updates.fill_(self._done)", "self.updates.fill_(0)",
        (TEACHER,),
    ),
    Defect(
        "teacher-trains", "a teacher stays in evaluation mode", "medseg/methods/teacher.py",
        "return super().train(False)", "return super().train(mode)",
        (TEACHER,),
    ),
    Defect(
        "teacher-of-other-values", "a teacher sees values normalised as in its training", "medseg/factory/teacher.py",
        "(own[1] - other[1]) / other[0], least", "(own[1] - other[1]), least",
        (f"{OTHER}::test_channels_normalisation_cells_and_classes_are_brought_together",),
    ),
    Defect(
        "teacher-of-other-channels", "a teacher sees its channels in its order", "medseg/factory/teacher.py",
        "[names.index(channel.name) for channel in self.held.spec.channels]", "[*range(len(self.held.spec.channels))]",
        (f"{OTHER}::test_channels_normalisation_cells_and_classes_are_brought_together",),
    ),
    Defect(
        "further-classes-lost", "further classes of a teacher are background", "medseg/factory/teacher.py",
        "parts = [rest] * with_background", "parts = [rest[:1]] * with_background",
        (f"{OTHER}::test_channels_normalisation_cells_and_classes_are_brought_together",),
    ),
    Defect(
        "last-pattern-counts", "a case belongs to the first pattern that matches", "medseg/data/sampling/weighted.py",
        "members[own[0]].append(index)", "members[own[-1]].append(index)",
        (f"{WEIGHTED}::test_the_first_pattern_counts_and_weight_0_leaves_out",),
    ),
)
