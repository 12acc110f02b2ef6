"""Defects in trainings: run folders, resuming, signals, divergence, the choice of checkpoints, provenance."""

from defects import Defect

RUN_FOLDER, LOCK = "tests/training/test_run_directory.py", "tests/runtime/test_run_lock.py"
MONITOR, SUPERVISED = "tests/training/test_monitor.py", "tests/methods/test_supervised.py"

# fmt: off
TABLE = (
    Defect(
        "last-of-a-neighbour", "ckpt_path=last never goes on in another run's folder",
        "medseg/training/run_directory.py",
        "and is_default(run_dir, cfg.name, command_overrides()):", "and run_dir.parent.is_dir():",
        (f"{RUN_FOLDER}::test_a_folder_that_was_chosen_is_the_folder_whatever_lies_next_to_it",),
    ),
    Defect(
        "newest-of-any-name", "ckpt_path=last takes the newest run of its own name", "medseg/training/run_directory.py",
        'for path in run_dir.parent.glob("*/config.yaml") if _name_of(path) == name]',
        'for path in run_dir.parent.glob("*/config.yaml")]',
        (f"{RUN_FOLDER}::test_the_dated_default_takes_the_newest_run_of_its_name",),
    ),
    Defect(
        "finished-meanwhile", "a run that finished meanwhile is not overwritten", "medseg/training/run_directory.py",
        "if resumed is None and (run_dir / LAST).exists():", "if False:",
        (f"{RUN_FOLDER}::test_what_finished_while_this_one_started_is_not_overwritten",),
    ),
    Defect(
        "training-overwritten", "another checkpoint does not overwrite a training", "medseg/training/run_directory.py",
        "(resumed is None or resumed.resolve().parent != last.resolve().parent)", "resumed is None",
        ("tests/training/test_train.py::test_another_checkpoint_is_not_continued_in_a_folder_that_holds_a_training",),
    ),
    Defect(
        "drafts-stay", "drafts of killed trainings are removed", "medseg/training/run_directory.py",
        "        drafts.remove_files(run_dir / LAST.parent)\n", "",
        (f"{RUN_FOLDER}::test_drafts_of_killed_trainings_are_removed",),
    ),
    Defect(
        "lock-not-taken", "two trainings in one folder are refused", "medseg/runtime/run_lock.py",
        "fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)", "fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)",
        (f"{LOCK}::test_a_second_one_is_refused_with_the_process_that_holds_the_folder",),
    ),
    Defect(
        "folder-not-locked", "a training takes the lock of its folder", "medseg/training/run_directory.py",
        "    with locked(run_dir):\n", "    run_dir.mkdir(parents=True, exist_ok=True)\n    if run_dir:\n",
        (RUN_FOLDER, "tests/training/test_train.py::test_a_training_is_never_overwritten"),
    ),
    Defect(
        "lock-of-a-removed-file", "a lock whose file was removed meanwhile is taken anew", "medseg/runtime/run_lock.py",
        "        if _is(lock, stream):\n", "        if True:\n",
        (f"{LOCK}::test_a_lock_that_its_holder_removes_meanwhile_is_taken_anew",),
    ),
    Defect(
        "signal-ends-with-0", "a signal ends a command with 128 + its number", "medseg/runtime/signals.py",
        "super().__init__(128 + signum)", "super().__init__(0)",
        ("tests/runtime/test_signals.py::test_a_signal_ends_the_process_with_the_code_of_the_shell",),
    ),
    Defect(
        "sigterm-not-handled", "SIGTERM ends a training after its step", "medseg/runtime/signals.py",
        "ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)", "ENDING = (signal.SIGINT, signal.SIGUSR1)",
        ("tests/runtime/test_signals.py", "tests/hydra_app/test_app.py::test_a_signal_ends_a_command_with_one_line"),
    ),
    Defect(
        "late-signal-lost", "a signal that arrives last still ends the command", "medseg/runtime/signals.py",
        "        if _pending:  # received", "        if False:  # received",
        ("tests/runtime/test_signals.py::test_a_signal_that_nobody_looked_for_raises_at_the_end",),
    ),
    Defect(
        "no-checkpoint-for-a-signal", "a signal saves a checkpoint first", "medseg/callbacks/resumable.py",
        "        if signum or due:\n", "        if due:\n",
        ("tests/callbacks/test_resumable.py::test_a_training_that_a_signal_ends_resumes_exactly",),
    ),
    Defect(
        "minutes-ignored", "checkpoint_minutes saves within an epoch", "medseg/callbacks/resumable.py",
        "            self._save(trainer, pl_module, due=due)\n", "            self._save(trainer, pl_module)\n",
        ("tests/callbacks/test_resumable.py::test_after_some_minutes_a_checkpoint_is_due",),
    ),
    Defect(
        "step-not-told", "the line of a signal names the step to continue from", "medseg/training/fit.py",
        'where = "" if saved == trainer.global_step else f" from step {saved}"', 'where = ""',
        ("tests/training/test_fit.py::test_a_signal_is_one_line_with_the_command_that_continues",),
    ),
    Defect(
        "another-network-resumed", "another network is not resumed", "medseg/training/resume.py",
        "    if network:\n", "    if False:\n",
        ("tests/training/test_resume.py::test_another_network_is_refused_with_what_differs",),
    ),
    Defect(
        "resumed-settings-silent", "settings that differ from the resumed run are told", "medseg/training/resume.py",
        "    if differing:\n        listed", "    if network:\n        listed",
        ("tests/training/test_resume.py::test_settings_that_differ_are_one_warning",),
    ),
    Defect(
        "resume-not-compared", "a training compares itself with the run that it resumes", "medseg/training/train.py",
        "        resume.check(cfg, resumed, warn=is_first())\n", "        pass\n",
        ("tests/training/test_train.py::test_another_network_is_not_resumed",),
    ),
    Defect(
        "early-stopping-forgets", "early stopping counts on when it is resumed", "medseg/callbacks/early_stopping.py",
        'super().load_state_dict({**state_dict, "patience": self.patience})', "_ = state_dict",
        (f"{MONITOR}::test_early_stopping_ends_where_it_ends_when_it_is_resumed",),
    ),
    Defect(
        "stopped-goes-on", "a training that stopped early stays stopped", "medseg/callbacks/early_stopping.py",
        "        if self.wait_count >= self.patience:\n            self._stop(trainer)\n\n    def on_validation_end",
        "        return\n\n    def on_validation_end",
        (f"{MONITOR}::test_early_stopping_ends_where_it_ends_when_it_is_resumed",),
    ),
    Defect(
        "early-stopping-not-built", "early_stopping.patience ends a training", "medseg/factory/trainer.py",
        "callbacks += [FiniteCheck(), *early_stop(cfg, monitor)]", "callbacks += [FiniteCheck()]",
        (f"{MONITOR}::test_early_stopping_ends_where_it_ends_when_it_is_resumed",),
    ),
    Defect(
        "nan-never-stops", "losses that are not finite end a training", "medseg/callbacks/finite.py",
        "        if run >= _STEPS:\n", "        if run > 10 * _STEPS:\n",
        ("tests/callbacks/test_finite.py::test_three_steps_in_a_row_end_the_training",),
    ),
    Defect(
        "nan-steps-added-up", "three losses in a row end a training, not three in all", "medseg/callbacks/finite.py",
        "run = torch.where(self._bad, self._run + 1, 0)", "run = torch.where(self._bad, self._run + 1, self._run)",
        ("tests/callbacks/test_finite.py::test_three_steps_in_a_row_end_the_training",),
    ),
    Defect(
        "nan-network-saved", "a network that is not finite is never saved", "medseg/callbacks/finite.py",
        '        """Do not save one either."""\n        check_network(trainer, pl_module)\n',
        '        """Do not save one either."""\n',
        ("tests/callbacks/test_finite.py::test_network_that_is_not_finite_is_neither_validated_nor_saved",),
    ),
    Defect(
        "finite-check-not-built", "every training is checked for divergence", "medseg/factory/trainer.py",
        "callbacks += [FiniteCheck(), *", "callbacks += [*",
        (f"{MONITOR}::test_three_losses_in_a_row_that_are_not_finite_end_the_training",),
    ),
    Defect(
        "monitor-ignored", "monitor= chooses the best checkpoint", "medseg/factory/trainer.py",
        'filename="best", monitor=key, mode=mode,', 'filename="best", monitor="val/dice", mode="max",',
        (f"{MONITOR}::test_monitor_chooses_the_best_checkpoint",),
    ),
    Defect(
        "loss-is-maximised", "the lowest val/loss is best", "medseg/factory/trainer.py",
        '"min" if key == "val/loss" else "max"', '"max"',
        (f"{MONITOR}::test_monitor_is_that_of_the_metrics_unless_one_is_named",),
    ),
    Defect(
        "monitor-checked-late", "a monitor that nothing logs is refused before data is read",
        "medseg/factory/trainer.py",
        "if key not in valid and not (labels is None and of_class and scored):",
        "if labels is not None and key not in valid:",
        (f"{MONITOR}::test_monitor_that_nothing_logs_is_refused_before_data_is_read",),
    ),
    Defect(
        "validation-loss-of-invalid", "val/loss leaves out cells that do not count", "medseg/methods/supervised.py",
        "        if not any(counted[cut].any() for cut in cuts):\n            return None\n", "",
        (f"{SUPERVISED}::test_validation_loss_leaves_out_cells_and_cases_that_do_not_count",),
    ),
    Defect(
        "validation-patches-of-invalid", "val/loss looks where cells count", "medseg/methods/supervised.py",
        "label, valid & (label != IGNORE), f", "label, np.ones_like(valid), f",
        (f"{SUPERVISED}::test_validation_loss_leaves_out_cells_and_cases_that_do_not_count",),
    ),
    Defect(
        "validation-rounds-mix", "a round of validation forgets the one before", "medseg/methods/supervised.py",
        "self._counts, self._held_out, self._annotated, self._classes = {}, {}, {}, {}", "self._held_out = {}",
        (f"{SUPERVISED}::test_rounds_of_validation_do_not_mix",),
    ),
    Defect(
        "accumulated-samples-repeat", "accumulated batches hold the samples of a larger one",
        "medseg/data/sampling/patch_dataset.py",
        "places = range(part * self.batch_size, (part + 1) * self.batch_size)", "places = range(self.batch_size)",
        ("tests/data/sampling/test_patch_dataset.py::test_accumulated_batches_hold_the_samples_of_one_larger_batch",),
    ),
    Defect(
        "accumulated-dropout-repeats", "batches of a step have dropout of their own", "medseg/methods/method.py",
        "[*place, part] if part else place", "place",
        (f"{SUPERVISED}::test_batches_of_a_step_draw_other_randomness",),
    ),
    Defect(
        "accumulation-not-in-the-sampler", "the loader knows of accumulated gradients", "medseg/data/datamodule.py",
        "parts = trainer.accumulate_grad_batches if trainer else 1", "parts = 1",
        ("tests/data/test_datamodule.py::test_batches_of_a_step_are_those_of_the_trainer",),
    ),
    Defect(
        "ranks-share-samples", "ranks share the samples of a step", "medseg/data/sampling/patch_dataset.py",
        "self.rank + self.world * place) for place", "place) for place",
        ("tests/data/sampling/test_patch_dataset.py::test_ranks_share_the_samples_of_a_step",),
    ),
    Defect(
        "dice-of-one-rank", "Dice is over the batch of all ranks", "medseg/losses/ranks.py",
        "        total = values.clone()\n        distributed.all_reduce(total)\n        return total\n",
        "        return values.clone()\n",
        ("tests/losses/test_ranks.py::test_loss_and_gradient_of_two_ranks_are_those_of_the_whole_batch",),
    ),
    Defect(
        "gradient-of-one-rank", "gradients of two ranks are those of one with both batches", "medseg/losses/ranks.py",
        "return grads[0] * world_size()", "return grads[0]",
        ("tests/losses/test_ranks.py::test_loss_and_gradient_of_two_ranks_are_those_of_the_whole_batch",),
    ),
    Defect(
        "provenance-without-git", "provenance has the state of the working folder", "medseg/runtime/provenance.py",
        '"git": git_state(Path.cwd()),', '"git": None,',
        ("tests/runtime/test_provenance.py::test_all_of_it_is_plain",),
    ),
    Defect(
        "provenance-without-diff", "provenance tells that code was changed", "medseg/runtime/provenance.py",
        'diff = _git(folder, "diff", "HEAD")', 'diff = _git(folder, "diff", "HEAD", "HEAD")',
        ("tests/runtime/test_provenance.py::test_what_differs_has_a_digest",),
    ),
    Defect(
        "provenance-without-packages", "provenance has the versions of libraries", "medseg/runtime/provenance.py",
        '        "packages": packages(),\n', "",
        ("tests/training/test_train.py::test_run_folder_holds_what_is_promised",),
    ),
    Defect(
        "provenance-without-hardware", "provenance has the machine", "medseg/runtime/provenance.py",
        '        "hardware": hardware(),\n', '        "hardware": {},\n',
        ("tests/runtime/test_provenance.py::test_all_of_it_is_plain",),
    ),
    Defect(
        "provenance-without-data", "provenance has digests of the data", "medseg/training/artifacts.py",
        '"digest": manifest["digest"], "files": files}', '"files": {}}',
        ("tests/training/test_train.py::test_run_folder_holds_what_is_promised",),
    ),
    Defect(
        "provenance-without-weights", "provenance tells where weights came from", "medseg/factory/run.py",
        '        metadata = metadata.with_weights(report.to_dict())\n', "        pass\n",
        ("tests/factory/test_initial_weights.py::test_a_run_tells_where_its_weights_came_from",),
    ),
    Defect(
        "sweep-begins-anew", "a killed trial of a sweep is resumed", "medseg/sweeps/optuna.py",
        'resumes = (run_dir / "checkpoints" / "last.ckpt").is_file()', "resumes = False",
        ("tests/sweeps/test_optuna.py::test_killed_sweep_goes_on_as_if_it_had_not_been",),
    ),
    Defect(
        "pretraining-reads-labels", "pretraining reads no label", "medseg/factory/run.py",
        "return [replace(case, label=None) for case in cases]", "return list(cases)",
        ("tests/training/test_pretrain.py::test_labels_are_not_read",),
    ),
    Defect(
        "frozen-encoder-trains", "a frozen encoder keeps its statistics", "medseg/finetuning/strategy.py",
        "            part_of(network).eval()\n", "            pass\n",
        ("tests/finetuning/test_finetuning.py::test_a_frozen_encoder_keeps_its_statistics",),
    ),
)
# fmt: on
