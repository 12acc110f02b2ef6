"""Defects in the meter of a training's time, and in how threads wait."""

from defects import Defect

CLOCK, METER = "tests/callbacks/test_clock.py", "tests/callbacks/test_meter.py"
WAITING = "tests/runtime/test_waiting.py"

# fmt: off
TABLE = (
    Defect(
        "counted-twice", "an action within another is not counted twice", "medseg/callbacks/clock.py",
        "        if part:\n            self._add()\n        self._open.append(part)",
        "        self._open.append(part)",
        (f"{CLOCK}::test_an_action_within_another_is_not_counted_twice",),
    ),
    Defect(
        "validation-is-data", "loading of a validation belongs to the validation", "medseg/callbacks/clock.py",
        'part: Part = "validation" if self._outside == "validation" else inner or "rest"',
        "part: Part = inner or self._outside",
        (f"{CLOCK}::test_loading_and_copying_of_a_validation_belong_to_the_validation",),
    ),
    Defect(
        "first-step-counts", "the first step is not counted", "medseg/callbacks/meter.py",
        "if self._clock and done <= 1:", "if False and self._clock:",
        (f"{METER}::test_the_parts_of_a_training_are_those_that_were_spent",),
    ),
    Defect(
        "profiler-replaced", "a profiler that was asked for stays", "medseg/callbacks/meter.py",
        "and isinstance(trainer.profiler, PassThroughProfiler)", "and trainer.profiler",
        (f"{METER}::test_a_profiler_that_was_asked_for_stays",),
    ),
    Defect(
        "times-in-metrics", "metrics.csv has no times", "medseg/callbacks/meter.py",
        "if not isinstance(logger, MetricsFile):", "if True:",
        (f"{METER}::test_the_parts_of_a_training_are_those_that_were_spent",),
    ),
    Defect(
        "data-of-all-time", "the share of data is that of the steps", "medseg/callbacks/meter.py",
        'shares["data"] / steps > 0.15', 'shares["data"] > 0.15',
        (f"{METER}::test_recommendation_names_the_largest_saving",),
    ),
    Defect(
        "user's-policy-replaced", "a user's policy of waiting stays", "medseg/runtime/waiting.py",
        " or any(name in os.environ for name in (*_PASSIVE, *_FURTHER))", "",
        (f"{WAITING}::test_settings_of_the_user_stay",),
    ),
    Defect(
        "waiting-set-too-late", "the policy is set before torch is loaded", "medseg/__init__.py",
        "    wait_passively()\n    from medseg.prediction.restore import predictor\n",
        "    from medseg.prediction.restore import predictor\n\n    wait_passively()\n",
        (f"{WAITING}::test_verbs_ask_for_it_before_torch_is_loaded",),
    ),
)
