"""Defects in the memory that plans count for a training step."""

from defects import Defect

COUNTED, PLANNED = "tests/planning/test_activations.py", "tests/factory/test_memory.py"

# fmt: off
TABLE = (
    Defect(
        "kept-twice", "a tensor that two layers read is kept once", "medseg/planning/activations.py",
        "saved[_identity(tensor)] = tensor", "saved[len(saved)] = tensor",
        (f"{COUNTED}::test_a_tensor_that_two_layers_read_counts_once",),
    ),
    Defect(
        "parameters-grow-with-the-batch", "parameters do not grow with the batch", "medseg/planning/activations.py",
        "if _identity(tensor) not in own:", "if True:",
        (f"{COUNTED}::test_counts_what_the_backward_pass_reads_by_hand",),
    ),
    Defect(
        "kept-of-two-cases", "the need is that of one patch", "medseg/planning/activations.py",
        'device="meta")) / cases', 'device="meta"))',
        (f"{COUNTED}::test_counts_what_the_backward_pass_reads_by_hand",),
    ),
    Defect(
        "rules-plan-alone", "a plan is made again until a step fits", "medseg/factory/memory.py",
        "while step and step.gb > wishes.memory_gb and", "while False and step and",
        (f"{PLANNED}::test_a_plan_is_made_for_less_memory_until_a_step_fits",),
    ),
    Defect(
        "user's-patch-replaced", "a patch of the user stays", "medseg/factory/memory.py",
        "if wishes.patch is not None or wishes.batch_size is not None:", "if False:",
        (f"{PLANNED}::test_a_patch_of_the_user_stays_with_a_warning",),
    ),
    Defect(
        "nothing-fits-unexplained", "what does not fit is said with what would", "medseg/factory/memory.py",
        "raise _too_small(cfg, step, planned.batch_size, wishes) from error", "raise",
        (f"{PLANNED}::test_a_memory_that_nothing_fits_is_refused_with_what_would",),
    ),
)
# fmt: on
