"""Defects in how weights are found, fitted, refused and told of; and in networks and plans."""

from defects import Defect

ESSENTIAL, LOAD = "tests/weights/test_essential.py", "tests/weights/test_load.py"
FRAMES, CHANNELS = "tests/weights/test_frames.py", "tests/weights/test_channels.py"
LACKS = f"{ESSENTIAL}::test_a_part_that_the_file_lacks_is_refused_unless_it_is_accepted"

# fmt: off
TABLE = (
    Defect(
        "little-accepted", "weights that cover too little are refused", "medseg/weights/load.py",
        "if done.share < options.least_share:", "if done.share <= 0:",
        (f"{LOAD}::test_half_of_the_names",),
    ),
    Defect(
        "written-before-accepted", "nothing is changed unless all is accepted", "medseg/weights/load.py",
        "    _check_accepted(", "    put(module, fresh)\n    _check_accepted(",
        (LACKS,),
    ),
    Defect(
        "random-stem-accepted", "a kernel of the image that stays random is refused", "medseg/weights/essential.py",
        '"stem": [name for name in random if name in stems],', '"stem": [],',
        (LACKS,),
    ),
    Defect(
        "random-stem-counts-as-loaded", "a random kernel of the image is not covered", "medseg/weights/coverage.py",
        "    if fitted.origins and all(origin == _RANDOM for origin in fitted.origins):\n        return \"random\"\n",
        "",
        (f"{LOAD}::test_random_stem_is_not_covered",),
    ),
    Defect(
        "random-positions-accepted", "positions that stay random are refused", "medseg/weights/essential.py",
        "for pattern in (ABSOLUTE, TABLE, ALONG_AXIS))", "for pattern in (TABLE,))",
        (LACKS,),
    ),
    Defect(
        "lacking-norm-accepted", "normalisation that the file lacks is refused", "medseg/weights/essential.py",
        'for name in [*random, *kept] if', 'for name in random if',
        (LACKS,),
    ),
    Defect(
        "deeper-accepted", "weights of a deeper network are refused", "medseg/weights/essential.py",
        '"deeper": _deeper(done.named("unexpected"), pairs, left_out),', '"deeper": [],',
        (f"{ESSENTIAL}::test_a_file_that_continues_the_blocks_is_of_a_larger_network",),
    ),
    Defect(
        "left-out-counts-as-deeper", "layers that an encoder leaves out are not missed", "medseg/weights/essential.py",
        " and not left_out(own):", ":",
        (f"{ESSENTIAL}::test_layers_behind_the_last_feature_are_no_further_layers",),
    ),
    Defect(
        "first-frame-alone", "a still scene gives the response of the clip", "medseg/weights/frames.py",
        "changed[pairs[name]] = kernel.sum(2)", "changed[pairs[name]] = kernel[:, :, 0]",
        (f"{FRAMES}::test_a_still_scene_gives_the_response_of_the_clip",),
    ),
    Defect(
        "frames-not-averaged", "positions of frames become their mean", "medseg/weights/frames.py",
        ".unflatten(-2, (counts[0], -1)).mean(-3)", ".unflatten(-2, (counts[0], -1)).select(-3, 0)",
        (f"{FRAMES}::test_positions_of_frames_become_their_mean",),
    ),
    Defect(
        "frames-guessed", "a number of frames that is not certain is asked for", "medseg/weights/frames.py",
        "    if len(counts) > 1:\n", "    if len(counts) > 9:\n",
        (f"{FRAMES}::test_frames_that_are_not_certain_are_asked_for",),
    ),
    Defect(
        "trained-on-ignored", "trained_on goes before what the file says", "medseg/weights/options.py",
        'channels=channels or found.channels,', 'channels=found.channels or channels,',
        ("tests/weights/test_options.py",),
    ),
    Defect(
        "trained-on-of-another-number", "trained_on has as many channels as the kernel",
        "medseg/weights/check_inputs.py",
        "    if found.stated:\n", "    if not found.channels:\n",
        ("tests/weights/test_options.py::test_another_number_of_channels_than_the_kernel",),
    ),
    Defect(
        "statistics-of-other-channels", "statistics of other channels do not stay", "medseg/weights/options.py",
        '            found = replace(found, mean=(), std=())  # of other channels than these\n', "            pass\n",
        ("tests/weights/test_options.py::test_statistics_of_other_channels_do_not_stay",),
    ),
    Defect(
        "unit-not-told", "data in another unit than the weights' is warned of", "medseg/weights/check_inputs.py",
        "if not 1 / _RATIO <= own_std / raw_std <= _RATIO:", "if not own_std / raw_std <= 100 * _RATIO:",
        ("tests/weights/test_check_inputs.py::test_another_unit_is_told_beyond_three_times",),
    ),
    Defect(
        "order-although-shapes-differ", "tensors are taken in order if all shapes agree", "medseg/weights/order.py",
        "    return ours == theirs\n", "    return len(ours) == len(theirs)\n",
        ("tests/weights/test_order.py::test_any_doubt_is_refused",),
    ),
    Defect(
        "onnx-reads-other-folders", "tensors of ONNX lie in its own folder", "medseg/weights/onnx_file.py",
        "if Path(location).name != location or ", "if ",
        ("tests/weights/test_onnx_file.py::test_nothing_is_read_outside_of_the_folder",),
    ),
    Defect(
        "onnx-linear-not-transposed", "linear layers of ONNX are transposed", "medseg/weights/onnx_file.py",
        "linear = {weight: tensor.T for", "linear = {weight: tensor for",
        ("tests/weights/test_onnx_file.py::test_weights_of_linear_layers_get_their_names_and_axes_back",),
    ),
    Defect(
        "torchscript-larger-than-stored", "tensors of TorchScript lie in storage", "medseg/weights/torchscript.py",
        "if prod(tensor.size) > len(storage):", "if prod(tensor.size) < 0:",
        ("tests/weights/test_torchscript.py::test_a_tensor_with_more_values_than_its_storage_is_refused",),
    ),
    Defect(
        "order-without-warning", "tensors taken in order are warned of", "medseg/weights/coverage.py",
        "        warnings = [*warnings, WARNING]\n", "        pass\n",
        ("tests/weights/test_order.py::test_equal_shapes_in_the_same_order_are_taken_and_reported",),
    ),
    Defect(
        "neighbours-swapped", "channels are interpolated by wavelength", "medseg/weights/channels.py",
        "return _Part({i: 1 - share, j: share}, words)", "return _Part({i: share, j: 1 - share}, words)",
        (f"{CHANNELS}::test_wavelength_is_linear_between_neighbours",),
    ),
    Defect(
        "response-not-kept", "kernels of other channels keep their response", "medseg/weights/channels.py",
        "row[i] = share * factor", "row[i] = share",
        (f"{CHANNELS}::test_mean_keeps_the_response_to_equal_channels",),
    ),
    Defect(
        "not-finite-loaded", "weights that are not finite are refused", "medseg/weights/load.py",
        "for values in (tensor, cast):", "for values in ():",
        (f"{LOAD}::test_values_that_are_not_finite",),
    ),
    Defect(
        "features-not-verified", "what an encoder declares is verified", "medseg/models/encoder_decoder.py",
        "        check_features(built, spec.in_channels, shape)\n", "",
        ("tests/models/test_encoder_decoder.py::test_features_are_held_to_what_is_declared",),
    ),
    Defect(
        "pooling-stops-early", "plans pool as nnU-Net's do", "medseg/planning/rules.py",
        "if cells >= 2 * MIN_EDGE]", "if cells > 2 * MIN_EDGE]",
        ("tests/planning/test_rules.py",),
    ),
    Defect(
        "skips-cost-nothing", "the cost counts what the network writes", "medseg/planning/cost.py",
        "total += features[i] * cells[i] * (1 + blocks)", "total += features[i] * cells[i] * blocks",
        ("tests/planning/test_cost.py::test_counts_what_the_network_really_writes",),
    ),
)
# fmt: on
