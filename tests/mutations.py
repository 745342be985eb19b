"""One deliberate fault after another: does the test that must notice it notice it?

    python tests/mutations.py                 all faults
    python tests/mutations.py bayes store     those whose names begin so
    python tests/mutations.py --list          their names, places and tests

By hand, not part of `make test`: all of them take about half an hour. The project is copied into a
temporary folder; for each fault one text of one of its files is replaced and one test is run there. A fault is caught
where that test fails, missed where it passes, and an error where its text is not there exactly once or its test fails
without any fault. The exit status is 1 below 95 % caught. A test of tests/test_project.py sees to it that all texts
and tests can be found.

A new fault is one more line of FAULTS: name, file, text, what stands in its place, test.
"""

import argparse
import os
import re
import shutil
import sys
import tempfile
import time
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("avianspec", "experiments", "nbs", "report", "tests", "_quarto.yml", "index.qmd", "settings.ini", "README.md")
NEEDED = 0.95  # share of the faults that must be caught
LIMIT_S = 300  # of one test


class Fault(NamedTuple):
    "One thing done wrong."

    name: str  # room and what is wrong there
    file: str  # below avianspec/, or from nbs/ on: the job of a notebook
    old: str  # text that stands there once
    new: str  # what stands there instead
    test: str  # file, or file::test, below tests/

    @property
    def place(self) -> str:
        "File from the root of the project."
        return self.file if self.file.startswith("nbs/") else f"avianspec/{self.file}"


POISON = "test_poison.py"
NETWORKS = "test_published_networks.py"
TRAINING = "test_models_and_training.py"

FAULTS = [
    # ---- files
    Fault(
        "files: written in place",
        "files.py",
        "yield temporary\n        os.replace(temporary, path)",
        "yield path",
        "test_files.py::test_a_write_that_fails_leaves_the_old_file",
    ),
    Fault(
        "files: what is no number as JSON",
        "files.py",
        "return v if np.isfinite(v) else None",
        "return v",
        "test_files.py::test_values_come_back_as_json_can_hold_them",
    ),
    Fault(
        "files: a row with a cell too few is filled up",
        "files.py",
        "if len(cells) < least:",
        "if len(cells) < 0:",
        "test_files.py::test_a_row_that_cannot_be_read_is_named_and_the_others_are_read",
    ),
    Fault(
        "files: a forgotten quotation mark swallows rows",
        "files.py",
        "first, None), delimiter=separator, strict=True",
        "first, None), delimiter=separator, strict=False",
        "test_files.py::test_a_row_that_cannot_be_read_is_named_and_the_others_are_read",
    ),
    Fault(
        "files: thousands are taken for decimals",
        "files.py",
        'lambda m: m[1].replace(".", "") + "."',
        'lambda m: m[1] + "."',
        "test_files.py::test_numbers_are_read_however_decimals_are_marked",
    ),
    Fault(
        "files: digest of code without code",
        "files.py",
        'b"".join(f.read_bytes() for f in files)',
        'b"".join(b"" for f in files)',
        "test_files.py::test_names_of_contents_change_with_them",
    ),
    # ---- sound
    Fault(
        "sound: two channels added",
        "sound/audio.py",
        "(y[:, 0] + y[:, 1]) * np.float32(0.5)",
        "(y[:, 0] + y[:, 1])",
        "test_display.py::test_mono_is_the_mean_of_the_channels_at_the_wanted_rate",
    ),
    Fault(
        "sound: many channels added",
        "sound/audio.py",
        "else y.mean(axis=1)",
        "else y.sum(axis=1)",
        "test_recordings.py::test_channels_are_averaged",
    ),
    Fault(
        "sound: loudness of all, not of the loudest tenth",
        "sound/audio.py",
        "power[-max(1, len(power) // 10) :].mean()",
        "power.mean()",
        "test_recordings.py::test_loudness_is_that_of_the_loudest_tenth",
    ),
    Fault(
        "sound: a constant offset is heard",
        "sound/levels.py",
        "return self.high - self.low <= SILENT_STEPS",
        "return np.maximum(self.high, -self.low) <= SILENT_STEPS",
        "test_recordings.py::test_a_constant_offset_is_silence",
    ),
    Fault(
        "sound: a header that says too little is believed",
        "sound/containers.py",
        "return true_end - start if any(m[end:true_end]) else 0",
        "return 0",
        "test_odd_audio.py::test_sound_behind_a_header_that_says_too_little_is_read",
    ),
    Fault(
        "sound: any number of channels",
        "sound/levels.py",
        "if not 1 <= channels <= MAX_CHANNELS:",
        "if channels < 1:",
        "test_odd_audio.py::test_channels_that_cannot_be_are_named",
    ),
    Fault(
        "sound: channels that cancel are mixed",
        "sound/levels.py",
        "< CANCELLED * expected",
        "< 0 * expected",
        "test_odd_audio.py::test_opposed_channels_are_heard_one_by_one",
    ),
    Fault(
        "sound: gaps between frames are no loss",
        "sound/decoders.py",
        "self.made.lost_s += start_s - self.next_s",
        "self.made.lost_s += 0",
        "test_odd_audio.py::test_frames_that_are_missing_between_their_neighbours_times_are_a_loss",
    ),
    Fault(
        "sound: HTK's mel scale by default",
        "sound/features.py",
        "htk: bool = False",
        "htk: bool = True",
        "test_features.py::test_default_features_are_librosas_defaults",
    ),
    Fault(
        "sound: hop of 256 by default",
        "sound/features.py",
        "hop_length: int = 512",
        "hop_length: int = 256",
        "test_features.py::test_default_features_are_librosas_defaults",
    ),
    Fault(
        "sound: 13 MFCCs by default",
        "sound/features.py",
        "n_mfcc: int = 20",
        "n_mfcc: int = 13",
        "test_features.py::test_default_features_are_librosas_defaults",
    ),
    Fault(
        "sound: bands not normalised by area",
        "sound/features.py",
        'norm: str | None = "slaney"',
        "norm: str | None = None",
        "test_features.py::test_default_features_are_librosas_defaults",
    ),
    Fault(
        "sound: decimal logarithm",
        "sound/features.py",
        "return np.log(out, out=out)",
        "return np.log10(out, out=out)",
        "test_features.py::test_default_features_are_librosas_defaults",
    ),
    Fault(
        "sound: settings of the mel scale not passed on",
        "sound/features.py",
        "htk=cfg.htk, norm=cfg.norm",
        "htk=False, norm=cfg.norm",
        "test_features.py::test_features_are_librosas",
    ),
    Fault(
        "sound: floor of MFCCs",
        "sound/features.py",
        "np.float32(peak * 10 / np.log(10) - cfg.top_db)",
        "np.float32(peak * 10 / np.log(10) - 2 * cfg.top_db)",
        "test_features.py::test_features_are_librosas",
    ),
    Fault(
        "sound: frames centred though not wanted",
        "sound/features.py",
        "n_fft // 2 if cfg.center else 0",
        "n_fft // 2",
        "test_features.py::test_features_are_librosas",
    ),
    Fault(
        "sound: coarse resampling",
        "sound/features.py",
        'quality="HQ"',
        'quality="LQ"',
        "test_features.py::test_resampling_in_blocks_is_librosas",
    ),
    Fault(
        "sound: resampled to another rate",
        "sound/features.py",
        "soxr.ResampleStream(orig_sr, target_sr, 1,",
        "soxr.ResampleStream(orig_sr, target_sr + 50, 1,",
        "test_features.py::test_resampling_in_blocks_is_librosas",
    ),
    Fault(
        "sound: variance between blocks left out",
        "sound/features.py",
        "values[1, b] += here[1, b] + away**2 * n * x.shape[0] / total",
        "values[1, b] += here[1, b]",
        "test_preprocessing.py::test_statistics_are_those_of_the_values",
    ),
    Fault(
        "sound: mixup leaves the labels",
        "sound/augmentation.py",
        "y[chosen] = blend(y)",
        "y[chosen] = y[chosen]",
        "test_augmentation.py::test_mixup_is_the_weighted_mean_of_two_and_of_their_labels",
    ),
    Fault(
        "sound: noise at half the decibels",
        "sound/transforms.py",
        "10 ** (-decibels / 10)",
        "10 ** (-decibels / 20)",
        "test_augmentation.py::test_noise_has_the_ratio_that_was_asked_for",
    ),
    Fault(
        "sound: gain of power as of pressure",
        "sound/transforms.py",
        "decibels * math.log(10) / 10 / unit",
        "decibels * math.log(10) / 20 / unit",
        "test_augmentation.py::test_ten_decibels_are_ten_times_the_power",
    ),
    Fault(
        "sound: masks as wide as the window",
        "sound/transforms.py",
        "rng.integers(0, int(widest * length) + 1, (len(x), masks))",
        "rng.integers(0, length + 1, (len(x), masks))",
        "test_augmentation.py::test_time_masks_are_one_span_no_wider_than_asked",
    ),
    Fault(
        "sound: mixing by the louder sound",
        "sound/transforms.py",
        "return b / (a + b)",
        "return a / (a + b)",
        "test_augmentation.py::test_between_class_mixing_of_waves_follows_the_paper",
    ),
    Fault(
        "sound: colours rounded down",
        "sound/pictures.py",
        "np.round(255 * shades[:, :3])",
        "np.floor(255 * shades[:, :3])",
        "test_images.py::test_other_settings_equal_matplotlib_too",
    ),
    Fault(
        "sound: pictures upside down",
        "sound/pictures.py",
        "out[f, j, level.shape[1] - 1 - b] = table",
        "out[f, j, b] = table",
        "test_images.py::test_low_frequencies_lie_at_the_bottom_and_time_runs_to_the_right",
    ),
    Fault(
        "sound: another bicubic curve",
        "sound/pictures.py",
        "(1.5 * x - 2.5) * x * x + 1, (((x - 5) * x + 8) * x - 4) * -0.5",
        "(1.25 * x - 2.25) * x * x + 1, (((x - 5) * x + 8) * x - 4) * -0.75",
        "test_images.py::test_a_figure_is_resized_to_the_same_bits_as_by_pillow",
    ),
    Fault(
        "sound: passes of a resize round down",
        "sound/pictures.py",
        "total[:] = 1 << (WEIGHT_BITS - 1)",
        "total[:] = 0",
        "test_images.py::test_a_figure_is_resized_to_the_same_bits_as_by_pillow",
    ),
    Fault(
        "sound: four pixels blended however large the figure",
        "sound/pictures.py",
        "stretch = max(step, 1.0)",
        "stretch = 1.0",
        "test_images.py::test_a_figure_is_resized_to_the_same_bits_as_by_pillow",
    ),
    Fault(
        "sound: the nearest pixel by default",
        "sound/pictures.py",
        'resize: str = "bicubic"  # how it is reduced: Pillow',
        'resize: str = "nearest"  # how it is reduced: Pillow',
        "test_images.py::test_a_picture_is_resized_as_in_the_study_where_nothing_else_is_asked_for",
    ),
    # ---- data
    Fault(
        "data: session without its day",
        "data/splits.py",
        '(table.recordist + "|" + table.location + "|" + table.date)',
        '(table.recordist + "|" + table.location)',
        "test_splits.py::test_twins_counted_by_hand",
    ),
    Fault(
        "data: split cuts groups apart",
        "data/splits.py",
        'groups = session(table) if by == "session" else stated_groups(table)',
        "groups = table.recording_id",
        "test_splits.py::test_every_recording_is_tested_once_and_no_group_is_cut",
    ),
    Fault(
        "data: folds ignore groups",
        "data/splits.py",
        "np.unique(labels, return_inverse=True)[1], np.unique(groups, return_inverse=True)[1]",
        "np.unique(labels, return_inverse=True)[1], np.arange(len(groups))",
        "test_splits.py::test_every_recording_is_tested_once_and_no_group_is_cut",
    ),
    Fault(
        "data: groups dealt the same at every seed",
        "data/splits.py",
        "np.random.default_rng([seed, 7])",
        "np.random.default_rng([0, 7])",
        "test_splits.py::test_seeds_test_different_parts_and_the_largest_groups_too",
    ),
    Fault(
        "data: single recordings dealt the same at every seed",
        "data/splits.py",
        "shuffle=True, random_state=seed)",
        "shuffle=True, random_state=0)",
        "test_splits.py::test_recordings_that_are_groups_of_their_own_are_stratified_exactly",
    ),
    Fault(
        "data: groups dealt whatever their labels",
        "data/splits.py",
        "share, size = counts / counts.sum(axis=0),",
        "share, size = np.zeros_like(counts),",
        "test_splits.py::test_labels_are_spread_though_nobody_recorded_two_of_them",
    ),
    Fault(
        "data: what is in no fold is learned from",
        "data/splits.py",
        'np.where(column == "", "", np.where(column == fold, "test", "train"))',
        'np.where(column == fold, "test", "train")',
        "test_splits.py::test_twins_are_counted_fold_by_fold",
    ),
    Fault(
        "data: the first fold is tested at every turn",
        "data/splits.py",
        'np.where(column == fold, "test", "train")',
        'np.where(column == folds[0], "test", "train")',
        "test_splits.py::test_every_recording_is_tested_once_and_no_group_is_cut",
    ),
    Fault(
        "data: the tested fold is validated on",
        "data/splits.py",
        "folds[(folds.index(fold) + 1) % len(folds)]",
        "folds[folds.index(fold)]",
        "test_splits.py::test_the_fold_after_the_tested_one_is_validated_on",
    ),
    Fault(
        "data: folds in the order of words",
        "data/splits.py",
        "sorted(found, key=lambda fold: (len(fold), fold))",
        "sorted(found)",
        "test_splits.py::test_the_fold_after_the_tested_one_is_validated_on",
    ),
    Fault(
        "data: folds to validate on cut groups apart",
        "data/splits.py",
        "groups = groups_of(table, by).to_numpy()\n    fold =",
        "groups = table.recording_id.to_numpy()\n    fold =",
        "test_splits.py::test_validation_folds_never_cut_a_group",
    ),
    Fault(
        "data: twins counted in all parts",
        "data/splits.py",
        'set(key[side == "train"])',
        "set(key)",
        "test_splits.py::test_twins_are_counted_fold_by_fold",
    ),
    Fault(
        "data: groups of training counted as tested",
        "data/splits.py",
        "n_groups=groups[tested].nunique()",
        "n_groups=groups.nunique()",
        "test_splits.py::test_groups_are_counted_where_they_are_tested",
    ),
    Fault(
        "data: labels of one person are not named",
        "data/splits.py",
        'owners[owners["nunique"] == 1]',
        'owners[owners["nunique"] == 0]',
        "test_splits.py::test_groups_that_no_deal_can_spread_are_named",
    ),
    Fault(
        "data: stated groups ignored",
        "data/splits.py",
        'table.group.where(table.group != "", table.recordist)',
        "table.recordist",
        "test_splits.py::test_a_stated_group_is_kept_whole_whoever_recorded_it",
    ),
    Fault(
        "data: tracks on both sides",
        "data/splits.py",
        "track=out.recording_id.map(by_track)",
        "track=by_clip.loc[out.index]",
        "test_images.py::test_splits_keep_tracks_whole_and_classes_in_share",
    ),
    Fault(
        "data: folds of clips cut tracks",
        "data/splits.py",
        "by_track = out.recording_id.map(dict(zip(tracks.recording_id, fold, strict=True)))",
        "by_track = grouped_folds(out.label.to_numpy(), out.clip_id.to_numpy(), n_folds, seed + 1)",
        "test_splits.py::test_clips_are_tested_once_and_tracks_stay_whole",
    ),
    Fault(
        "data: sources cut apart by folds of labels",
        "data/label_folds.py",
        "np.unique(np.asarray(groups, dtype=str), return_inverse=True)",
        "np.unique(np.arange(len(groups)), return_inverse=True)",
        "test_label_folds.py::test_every_clip_is_in_one_fold_and_every_source_is_whole",
    ),
    Fault(
        "data: one recording too many for a label",
        "data/splits.py",
        "rare = table[n < min_recordings]",
        "rare = table[n <= min_recordings]",
        "test_splits.py::test_as_many_recordings_as_are_needed_are_enough",
    ),
    Fault(
        "data: offset of a file in a Raven table",
        "data/annotations.py",
        '_number(raw, "File Offset (s)").fillna(begin)',
        'begin.fillna(_number(raw, "File Offset (s)"))',
        "test_annotations.py::test_times_of_annotations_by_hand",
    ),
    Fault(
        "data: Kaleidoscope's duration as an end",
        "data/annotations.py",
        '"end_s": start + _number(raw, "DURATION")',
        '"end_s": _number(raw, "DURATION")',
        "test_annotations.py::test_times_of_annotations_by_hand",
    ),
    Fault(
        "data: windows that touch a mark are negatives",
        "data/annotations.py",
        "empty = not (overlap[k] > 0).any() and not unsure[k]",
        "empty = not enough[k].any() and not unsure[k]",
        "test_annotations.py::test_windows_of_marks_by_hand",
    ),
    Fault(
        "data: windows of marks set aside are negatives",
        "data/annotations.py",
        "empty = not (overlap[k] > 0).any() and not unsure[k]",
        "empty = not (overlap[k] > 0).any()",
        "test_annotations.py::test_a_window_in_which_a_mark_may_lie_is_no_negative",
    ),
    Fault(
        "data: a mark that nobody labelled is a class",
        "data/annotations.py",
        "labels = sorted(set(part.label[enough[k] & named]))",
        "labels = sorted(set(part.label[enough[k]]))",
        "test_annotations.py::test_nobody_labelled_it_and_there_is_nothing_are_two_answers",
    ),
    Fault(
        "data: selections that restart are one",
        "data/annotations.py",
        'names = ("Begin Path", "Begin File", "Selection", "Begin Time (s)", "End Time (s)", "File Offset (s)")',
        'names = ("Selection",)',
        "test_annotations.py::test_selections_of_joined_tables_without_file_names_are_all_kept",
    ),
    Fault(
        "data: any key of GUANO that ends in Timestamp",
        "data/clocks.py",
        'if name.strip() == key), "")',
        'if name.strip().endswith(key)), "")',
        "test_clocks.py::test_a_header_is_read_chunk_by_chunk",
    ),
    Fault(
        "data: a clock without a zone is called UTC",
        "data/clocks.py",
        'zone = None if zone is None else offset(zone.strip() or "Z")',
        'zone = offset((zone or "").strip() or "Z")',
        "test_clocks.py::test_a_header_is_read_chunk_by_chunk",
    ),
    Fault(
        "data: last window of a recording forgotten",
        "data/annotations.py",
        "/ hop_s + 1e-9)) + 1) * hop_s",
        "/ hop_s + 1e-9))) * hop_s",
        "test_annotations.py::test_windows_of_marks_by_hand",
    ),
    Fault(
        "data: licence missing in the credits",
        "data/credits.py",
        "md(r.recordist), md(r.license)) for",
        'md(r.recordist), "") for',
        "test_credits.py::test_every_credit_names_its_licence",
    ),
    Fault(
        "data: licence missing in BibTeX",
        "data/credits.py",
        "note = {{{tex(r.license)}}}",
        "note = {{}}",
        "test_credits.py::test_every_credit_names_its_licence",
    ),
    Fault(
        "data: version of a licence forgotten",
        "data/credits.py",
        '{LICENSE_NAMES.get(parts[-2], parts[-2])} {parts[-1]}"',
        '{LICENSE_NAMES.get(parts[-2], parts[-2])}"',
        "test_credits.py::test_licences_have_short_names",
    ),
    Fault(
        "data: afternoon as morning",
        "data/clocks.py",
        'hour = hour % 12 + 12 * (half == "p")',
        "hour = hour % 12",
        "test_clocks.py::test_times_of_day_as_people_write_them",
    ),
    Fault(
        "data: a recording named twice is kept twice",
        "data/recordings.py",
        "why[table.recording_id.duplicated()] =",
        "why[table.recording_id.duplicated() & False] =",
        "test_layouts.py::test_a_recording_named_twice_is_kept_once",
    ),
    Fault(
        "data: recorder's UTC as local time",
        "data/clocks.py",
        "if zone and moment.time is not None and (in_utc or not moment.zone_known):",
        "if zone and moment.time is not None and not moment.zone_known:",
        "test_clocks.py::test_recorders_file_names_hold_the_moment",
    ),
    Fault(
        "data: hidden folders are searched",
        "data/folders.py",
        "visible = [Path(e.path) for e in entries if not is_hidden(e.name)]",
        "visible = [Path(e.path) for e in entries]",
        "test_folders.py::test_hidden_folders_are_neither_classes_nor_searched",
    ),
    Fault(
        "data: a folder is searched as often as a link leads to it",
        "data/folders.py",
        "        seen.add((stat.st_dev, stat.st_ino))\n",
        "",
        "test_folders.py::test_linked_folders_are_followed_once_and_loops_are_named",
    ),
    Fault(
        "data: parts of a data set are taken as labels",
        "data/folders.py",
        "    if parts or unclear and not likely:",
        "    if unclear and not likely:",
        "test_folders.py::test_another_level_is_described_and_refused",
    ),
    Fault(
        "data: the first of several data sets is taken",
        "data/layouts.py",
        "    if len(found) > 1:\n        there",
        "    if len(found) > 99:\n        there",
        "test_known_sets.py::test_several_sets_in_one_folder_are_named_and_none_is_taken",
    ),
    Fault(
        "data: ratings of BirdCLEF rounded down",
        "data/known_sets.py",
        "math.ceil(stars) - 1",
        "math.floor(stars) - 1",
        "test_known_sets.py::test_older_years_of_birdclef_name_files_without_their_folder",
    ),
    Fault(
        "data: damaged files are not in the quarantine",
        "data/checkup.py",
        'files.verdict != "usable"',
        'files.verdict == "unusable"',
        "test_checkup.py::test_damaged_silent_and_unusable_files_are_set_aside",
    ),
    Fault(
        "sound: half of the clipped samples",
        "sound/levels.py",
        "np.count_nonzero(np.abs(channels[k]) >= self._top)",
        "np.count_nonzero(channels[k] >= self._top)",
        "test_checkup.py::test_samples_at_both_ends_of_the_scale_are_clipped",
    ),
    Fault(
        "data: a table in the order of its file",
        "data/recordings.py",
        'out.sort_values("recording_id", kind="stable", ignore_index=True)',
        "out.reset_index(drop=True)",
        "test_recordings.py::test_a_table_is_sorted_and_its_ids_are_single",
    ),
    Fault(
        "data: a bird keeps its former name",
        "data/species_names.py",
        "in_use.get(key) or part.value_counts()",
        "part.value_counts()",
        "test_sources.py::test_a_rename_never_makes_two_classes_in_silence",
    ),
    # ---- label files
    Fault(
        "label files: lengths taken as whole seconds in running times",
        "field/label_files.py",
        "        total += length",
        "        total += round(length)",
        "test_label_files.py::test_an_event_in_the_fifth_file_stands_where_raven_puts_it",
    ),
    Fault(
        "label files: Kaleidoscope's channels counted from 1",
        "field/label_files.py",
        "str(max(channel - 1, 0)) for channel",
        "str(channel) for channel",
        "test_label_files.py::test_a_second_channel_is_channel_2_in_every_file_that_has_channels",
    ),
    Fault(
        "label files: a band above half the rate",
        "field/label_files.py",
        "highest = (sr / 2).fillna(np.inf)",
        "highest = sr.fillna(np.inf)",
        "test_label_files.py::test_rows_only_where_there_is_sound_and_bands_only_where_the_rate_has_them",
    ),
    Fault(
        "presence: overlapping detections counted twice",
        "field/presence.py",
        "if out and start <= out[-1][1]:",
        "if False:",
        "test_presence.py::test_two_channels_and_what_has_no_time_by_hand",
    ),
    Fault(
        "presence: recordings that state no time left out",
        "field/presence.py",
        "return [(UNKNOWN, UNKNOWN, end_s - start_s)]",
        "return []",
        "test_presence.py::test_two_channels_and_what_has_no_time_by_hand",
    ),
    Fault(
        "density: the counts of mistakes taken as certain",
        "field/density.py",
        "rng.dirichlet(counts.sum(axis=0)[known] + 0.5, size=n_draws)",
        "counts.sum(axis=0)[known]",
        "test_presence.py::test_intervals_of_a_density_hold_the_truth",
    ),
    Fault(
        "exchange: recordings without a zone handed on",
        "field/exchange.py",
        "if row is None or row.began is None or not row.zone_known:",
        "if row is None or row.began is None:",
        "test_exchange.py::test_nothing_is_made_up",
    ),
    Fault(
        "exchange: two detections alike under one name",
        "field/exchange.py",
        "_digits(medium, row.Index, row.start_s",
        "_digits(medium, row.start_s",
        "test_exchange.py::test_the_same_detections_have_the_same_names_wherever_they_lie",
    ),
    Fault(
        "annotations: a filled frequency taken for a drawn one",
        "data/annotations.py",
        "high.where(high != _number(raw, RAVEN_FILLED[1]))",
        "high",
        "test_label_files.py::test_a_box_drawn_anew_in_raven_counts",
    ),
    # ---- download
    Fault(
        "fetch: a file that came as it was stopped is not listed",
        "download/fetch.py",
        "rows += _came_last(stopped_at, folder, known)",
        "pass",
        "test_fetch.py::test_a_file_that_has_just_come_is_listed_whatever_stops_it",
    ),
    Fault(
        "download: key in a message, as an address writes it",
        "download/downloads.py",
        "forms.add(urllib.parse.quote_plus(self._text))",
        "forms = {self._text}",
        "test_fetch.py::test_the_key_is_in_no_message_of_a_line_that_cannot_be_had",
    ),
    Fault(
        "download: key in what a server says",
        "download/downloads.py",
        '" ".join(secret.redact(body).split())[:200]',
        '" ".join(body.split())[:200]',
        "test_fetch.py::test_the_key_is_in_no_half_and_in_no_other_writing",
    ),
    Fault(
        "download: key carried elsewhere",
        "download/downloads.py",
        "allow_redirects=plain == params",
        "allow_redirects=True",
        "test_fetch.py::test_the_key_is_not_carried_elsewhere",
    ),
    Fault(
        "download: checksum not looked at",
        "download/downloads.py",
        "if expected and (found := checksum(",
        "if not expected and (found := checksum(",
        "test_fetch.py::test_pinned_lists_bring_the_same_bytes_or_none",
    ),
    Fault(
        "download: two files patched together",
        "download/downloads.py",
        '({"If-Range": same} if same else {})',
        "({})",
        "test_fetch.py::test_a_file_that_changed_meanwhile_is_not_patched_together",
    ),
    Fault(
        "download: archive reaches outside",
        "download/downloads.py",
        'if ".." in PurePosixPath(slashed).parts:',
        'if ".." == slashed:',
        "test_fetch.py::test_archives_that_reach_outside_are_refused_with_the_name",
    ),
    Fault(
        "download: server asks for time in vain",
        "download/downloads.py",
        "wait_s = float(retry_after)",
        "wait_s = 0.0",
        "test_fetch.py::test_waiting_follows_the_server",
    ),
    Fault(
        "download: licences against derivatives",
        "download/xeno_canto.py",
        r'table.lic.str.contains(r"\bnd\b", case=False)',
        r'table.lic.str.contains(r"\bnd$", case=False)',
        "test_fetch.py::test_no_licence_against_derivatives_slips_through",
    ),
    Fault(
        "download: the shortest for the longest",
        "download/xeno_canto.py",
        '"longest": -table.length_s.fillna(-np.inf)',
        '"longest": table.length_s.fillna(np.inf)',
        "test_fetch.py::test_the_longest_and_the_best_rated_are_chosen_first",
    ),
    # ---- synthetic
    Fault(
        "synthetic: every purpose draws the same",
        "synthetic/seeds.py",
        "np.random.SeedSequence(seed, spawn_key=key)",
        "np.random.SeedSequence(seed)",
        "test_soundbox.py::test_chance_of_one_purpose_is_not_that_of_another",
    ),
    Fault(
        "synthetic: a folder of other arguments is taken",
        "synthetic/seeds.py",
        "if (found := read_json(folder / mark)) == arguments:",
        "if (found := read_json(folder / mark)):",
        "test_soundbox.py::test_what_is_in_the_way_is_refused",
    ),
    Fault(
        "synthetic: wrong labels that are right",
        "synthetic/soundbox.py",
        "others = [c for c in classes if c not in names]",
        "others = list(classes)",
        "test_soundbox.py::test_corruption_changes_one_label_in_exactly_the_share",
    ),
    Fault(
        "synthetic: sources in several buckets",
        "synthetic/mixes.py",
        "return source.map(dict(zip(of_class.source, np.arange(len(of_class)) % n_groups, strict=True))).to_numpy()",
        "return np.arange(len(source)) % n_groups",
        "test_soundbox.py::test_buckets_hold_sources_whole_and_classes_evenly",
    ),
    Fault(
        "synthetic: mixes of one class",
        "synthetic/mixes.py",
        "np.column_stack([a, b])[label[a] != label[b]]",
        "np.column_stack([a, b])[label[a] == label[b]]",
        "test_soundbox.py::test_mixes_keep_their_parents_in_one_bucket",
    ),
    Fault(
        "synthetic: all women speak higher than all men",
        "synthetic/chatter.py",
        "PITCH_SPREAD * ndtri(np.clip(even, 0.01, 0.99))",
        "PITCH_SPREAD * 0.2 * ndtri(np.clip(even, 0.01, 0.99))",
        "test_chatter.py::test_pitch_alone_tells_the_sex_of_most_talkers_and_not_of_all",
    ),
    Fault(
        "synthetic: one throat for all talkers",
        "synthetic/chatter.py",
        "throat=float(THROAT[sex] * np.exp(",
        "throat=float(THROAT['M'] * np.exp(",
        "test_chatter.py::test_pitch_alone_tells_the_sex_of_most_talkers_and_not_of_all",
    ),
    Fault(
        "synthetic: pulses that alias",
        "synthetic/chatter.py",
        "np.floor(0.47 * SR / f0_hz)",
        "np.floor(0.6 * SR / f0_hz)",
        "test_chatter.py::test_pulses_hold_the_harmonics_below_their_limit_and_nothing_else",
    ),
    # ---- stores
    Fault(
        "stores: rows off by one",
        "stores/store.py",
        "slice(row.start, row.start + row[self.counted])",
        "slice(row.start + 1, row.start + 1 + row[self.counted])",
        "test_preprocessing.py::test_a_store_holds_the_features_of_each_recording",
    ),
    Fault(
        "stores: resumed whatever the settings",
        "stores/store.py",
        "{file_sha256(path)}-{cfg.key}-{kind.code()}",
        "{file_sha256(path)}-{kind.code()}",
        "test_stores.py::test_parts_of_other_settings_are_not_taken",
    ),
    Fault(
        "stores: opened whatever the settings",
        "stores/store.py",
        "if cfg is not None and cfg.key != self.key:",
        "if cfg is not None and not self.key:",
        "test_stores.py::test_a_store_of_other_settings_is_refused_with_both_keys",
    ),
    Fault(
        "stores: quarantine without reasons",
        "stores/store.py",
        "facts = dict(verdict=e.verdict, reason=e.reason)",
        'facts = dict(verdict=e.verdict, reason="")',
        "test_stores.py::test_odd_files_are_quarantined_with_reasons_and_stop_nothing",
    ),
    Fault(
        "stores: half a part is taken",
        "stores/store.py",
        "if not file.exists() or file.stat().st_size != n_rows * array.row_bytes:",
        "if not file.exists():",
        "test_stores.py::test_a_part_that_is_not_whole_is_made_again",
    ),
    Fault(
        "stores: statistics of all recordings",
        "stores/preprocessing.py",
        "n, moments, bands = self.index.n_frames.to_numpy()[rows], np.array(self.moments[rows])",
        "n, moments, bands = self.index.n_frames.to_numpy(), np.array(self.moments)",
        "test_preprocessing.py::test_statistics_are_those_of_the_values",
    ),
    Fault(
        "stores: deviation without that of the means",
        "stores/preprocessing.py",
        "(m2 + n * (mean - band_mean) ** 2).sum(0)",
        "m2.sum(0)",
        "test_preprocessing.py::test_statistics_are_those_of_the_values",
    ),
    Fault(
        "stores: copies on both sides of a split",
        "stores/preprocessing.py",
        "copy = table.recording_id.to_numpy() != audio.map(first).to_numpy()",
        "copy = np.zeros(len(table), bool)",
        "test_preprocessing.py::test_byte_identical_copies_are_set_aside",
    ),
    Fault(
        "stores: damaged waves are kept",
        "stores/waves.py",
        'if stream.verdict == "damaged":',
        'if stream.verdict == "unusable":',
        "test_waves.py::test_every_kind_of_file_becomes_librosas_wave_or_has_its_reason",
    ),
    Fault(
        "stores: a record's checksum is not looked at",
        "stores/tfrecords.py",
        'if struct.unpack("<I", foot)[0] != masked_crc(data):',
        "if False:",
        "test_shards.py::test_an_altered_byte_is_noticed_wherever_it_is",
    ),
    Fault(
        "stores: a shard may be short",
        "stores/shards.py",
        'if n_bytes != facts["bytes"]:',
        'if n_bytes > facts["bytes"]:',
        "test_shards.py::test_a_shard_of_another_length_is_named_and_refused",
    ),
    Fault(
        "stores: a shard of another set passes",
        "stores/shards.py",
        'if int.from_bytes(file.read(4), "little") != crc:',
        "if False:",
        "test_shards.py::test_a_shard_that_is_missing_or_of_another_set_is_named",
    ),
    Fault(
        "stores: shards written in their places",
        "stores/shards.py",
        'stage, shards = facts["shards"] if facts else {}, folder / f".{subset}-stage", {}',
        'stage, shards = facts["shards"] if facts else {}, folder, {}',
        "test_shards.py::test_a_write_that_is_killed_leaves_no_set_and_goes_on",
    ),
    Fault(
        "stores: shards of yesterday's labels",
        "stores/shards.py",
        "{fingerprint(rows, code)} {list(rows.label)}",
        "{fingerprint(rows, code)}",
        "test_shards.py::test_only_shards_that_changed_are_written_again",
    ),
    Fault(
        "stores: pictures of the clip after",
        "stores/pictures.py",
        "number, names = np.arange(len(owner)) - self.index.start.to_numpy()[owner]",
        "number, names = np.arange(len(owner)) - self.index.start.to_numpy()[owner] - 1",
        "test_images.py::test_each_clip_is_that_stretch_of_its_track",
    ),
    # ---- dictionaries
    Fault(
        "dictionary: the background of a recording left in",
        "sound/whitening.py",
        "np.clip(log_mel - background, 0,",
        "np.clip(log_mel - background.mean(), 0,",
        "test_dictionaries.py::test_what_a_microphone_adds_to_every_frame_is_not_seen",
    ),
    Fault(
        "dictionary: bands averaged as logarithms",
        "sound/whitening.py",
        "return np.log(np.maximum(power.mean(axis=(1, 3)), np.float32(FINE.amin)))",
        "return np.log(power).mean(axis=(1, 3))",
        "test_dictionaries.py::test_the_front_end_is_librosas",
    ),
    Fault(
        "dictionary: opposite directions taken for the same",
        "learning/unsupervised.py",
        "return np.maximum(codes, 0, out=codes)",
        "return np.abs(codes)",
        "test_dictionaries.py::test_components_are_those_of_an_eigenvalue_problem_and_codes_are_cosines",
    ),
    Fault(
        "dictionary: components not made white",
        "learning/unsupervised.py",
        "projection = axes / np.sqrt(variances + cfg.floor * variances.mean() + 1e-12)",
        "projection = axes",
        "test_dictionaries.py::test_components_are_those_of_an_eigenvalue_problem_and_codes_are_cosines",
    ),
    Fault(
        "dictionary: long recordings count more",
        "learning/unsupervised.py",
        "each = 1 / np.bincount(owners)[owners]",
        "each = np.ones(len(owners))",
        "test_dictionaries.py::test_every_recording_counts_the_same_within_its_class_and_every_class_the_same",
    ),
    Fault(
        "dictionary: common classes count more",
        "learning/unsupervised.py",
        "weights = each / of_class * len(x) / len(classes)",
        "weights = each * len(x) / each.sum()",
        "test_dictionaries.py::test_every_recording_counts_the_same_within_its_class_and_every_class_the_same",
    ),
    Fault(
        "listeners: learnt from the test part too",
        "learning/listener_runs.py",
        "def learn_items(",
        "def learn_items(data, items, *rest, **how):\n    return _all(data, data.items, *rest, **how)\n\n\ndef _all(",
        "test_poison.py::test_birds_listeners",
    ),
    Fault(
        "listeners: a clip heard from the beginning of its recording",
        "learning/listener_runs.py",
        "self.parts = [slice(start, stop) for start, stop in ends]",
        "self.parts = [slice(stop - start) for start, stop in ends]",
        "test_heard_studies.py::test_a_clip_is_heard_from_its_first_second_to_its_last_and_no_further",
    ),
    Fault(
        "listeners: only the first label of a clip taught",
        "learning/listener_runs.py",
        "named = items.label.map(data.task.labels_of)",
        "named = items.label.map(lambda label: data.task.labels_of(label)[:1])",
        "test_heard_studies.py::test_a_clip_of_two_labels_is_learnt_from_as_one_of_each",
    ),
    Fault(
        "listeners: true labels of clips taught in place of those given",
        "studies/tagging/listeners.py",
        "train.assign(label=train.taught)",
        "train",
        "test_heard_studies.py::test_taught_labels_are_learnt_and_true_ones_answered_for",
    ),
    Fault(
        "music: a listener learns from the part to validate on, too",
        "studies/music/listeners.py",
        'model = learn_items(data, data.part(by, "train"), cfg, jobs, progress)',
        'model = learn_items(data, data.items[~data.on_side(by, "test")], cfg, jobs, progress)',
        "test_heard_studies.py::test_a_listener_learns_from_what_a_network_learns_from",
    ),
    Fault(
        "dictionary: times of windows in its own frames",
        "learning/unsupervised.py",
        "last = np.minimum(2 * frames[:, 1] + 1, n - 1)",
        "last = np.minimum(frames[:, 1], n - 1)",
        "test_dictionaries.py::test_saved_loaded_and_asked_about_a_file",
    ),
    Fault(
        "residual: background coloured too",
        "learning/residual.py",
        "if value > 0:",
        "if value > -1:",
        "test_listeners.py::test_a_gain_is_the_same_everywhere_and_leaves_the_background_alone",
    ),
    Fault(
        "residual: moved upwards only",
        "learning/residual.py",
        "shift = int(rng.integers(-cfg.shift, cfg.shift + 1))",
        "shift = int(rng.integers(0, cfg.shift + 1))",
        "test_listeners.py::test_windows_are_moved_by_all_shifts_and_by_no_more",
    ),
    Fault(
        "residual: windows from anywhere",
        "learning/residual.py",
        "total = [np.cumsum(activity(x) + 1e-3 if cfg.by_activity else np.ones(len(x))) for x in seen]",
        "total = [np.cumsum(np.ones(len(x))) for x in seen]",
        "test_listeners.py::test_windows_lie_where_something_happens",
    ),
    Fault(
        "residual: mixed in logarithms",
        "learning/residual.py",
        "x = np.log(s * power + (1 - s) * power[other])",
        "x = s * x + (1 - s) * x[other]",
        "test_listeners.py::test_two_windows_are_mixed_in_power_and_so_are_their_labels",
    ),
    Fault(
        "residual: labels of mixed windows left alone",
        "learning/residual.py",
        "y = share[:, None] * y + (1 - share[:, None]) * y[other]",
        "y = y * 1",
        "test_listeners.py::test_two_windows_are_mixed_in_power_and_so_are_their_labels",
    ),
    Fault(
        "residual: recordists of many recordings count by their number",
        "learning/residual.py",
        "share = 1 / np.sqrt(count[place])",
        "share = np.ones(len(place))",
        "test_listeners.py::test_species_are_drawn_alike_and_recordists_by_the_root_of_their_recordings",
    ),
    Fault(
        "residual: the last weights kept, not their average",
        "learning/residual.py",
        "    optimiser.finalize_variable_values(network.trainable_variables)\n",
        "",
        "test_listeners.py::test_what_is_kept_is_the_moving_average_of_the_weights",
    ),
    Fault(
        "residual: attention over classes in place of time",
        "learning/models.py",
        'layers.Softmax(axis=1, dtype="float32")',
        'layers.Softmax(axis=2, dtype="float32")',
        "test_listeners.py::test_the_network_weighs_moments_by_its_attention",
    ),
    Fault(
        "residual: an average as long for every number of steps",
        "learning/residual.py",
        "reach = cfg.average * cfg.steps",
        "reach = cfg.average * 1600",
        "test_listeners.py::test_what_is_kept_is_the_moving_average_of_the_weights",
    ),
    Fault(
        "listeners: only the first member asked",
        "learning/listeners.py",
        "for m, part in zip(self.members, parts, strict=True)], axis=0)",
        "for m, part in list(zip(self.members, parts, strict=True))[:1]], axis=0)",
        "test_listeners.py::test_new_recordings_are_told_apart_by_each_member_and_by_both",
    ),
    Fault(
        "outside: the end of a recording is not heard",
        "stores/embeddings.py",
        "elif end > after:",
        "elif end < after:",
        "test_outside.py::test_windows_cover_a_recording_to_its_end",
    ),
    Fault(
        "outside: labels that are not known are answered",
        "learning/heads.py",
        "np.where(self.columns < 0, -np.inf, scores)",
        "scores",
        "test_outside.py::test_own_labels_are_matched_by_scientific_name_and_no_other_counts",
    ),
    Fault(
        "outside: a head learns from the test part too",
        "studies/birds/outside.py",
        'vectors = [store[i]["vectors"] for i in items.recording_id]',
        'items = data.items\n        vectors = [store[i]["vectors"] for i in items.recording_id]',
        "test_outside.py::test_a_head_learns_nothing_from_what_is_tested",
    ),
    Fault(
        "outside: a network in place of another is taken",
        "learning/heads.py",
        "if net.config.sha256 != sha256:",
        "if not net.config.sha256:",
        "test_outside.py::test_a_network_that_was_replaced_is_refused",
    ),
    Fault(
        "outside: scores taken for vectors",
        "learning/pretrained.py",
        "return vectors[0], scores[0] if n_labels else None",
        "return (scores or vectors)[0], scores[0] if n_labels else None",
        "test_outside.py::test_outputs_are_told_apart_or_refused",
    ),
    # ---- learning
    Fault(
        "learning: windows one frame late",
        "learning/generator.py",
        "offset[:, None] + np.arange(cfg.n_frames)",
        "offset[:, None] + 1 + np.arange(cfg.n_frames)",
        "test_generator.py::test_windows_equal_the_loop",
    ),
    Fault(
        "learning: the last place of a crop never drawn",
        "learning/generator.py",
        "np.maximum(self.n_frames - self.cfg.n_frames, 0) + 1",
        "np.maximum(self.n_frames - self.cfg.n_frames, 1)",
        "test_generator.py::test_crops_stay_inside_and_reach_both_ends",
    ),
    Fault(
        "learning: the same crops every epoch",
        "learning/generator.py",
        "np.random.default_rng([self.seed, epoch]), epoch",
        "np.random.default_rng([self.seed, 0]), epoch",
        "test_generator.py::test_every_epoch_crops_anew_in_validation_too",
    ),
    Fault(
        "learning: the same window for every crop seed",
        "learning/predictions.py",
        "seed=CROP_SEED + crop_seed",
        "seed=CROP_SEED",
        "test_generator.py::test_crop_seeds_give_different_windows",
    ),
    Fault(
        "learning: validation augmented",
        "learning/generator.py",
        'parse_augmentation(cfg.augmentation if shuffle else "")',
        "parse_augmentation(cfg.augmentation)",
        "test_generator.py::test_validation_windows_and_labels_stay_clean",
    ),
    Fault(
        "learning: training not augmented",
        "learning/generator.py",
        'parse_augmentation(cfg.augmentation if shuffle else "")',
        'parse_augmentation("")',
        "test_generator.py::test_validation_windows_and_labels_stay_clean",
    ),
    Fault(
        "learning: loud frames without their buffer",
        "learning/generator.py",
        "2 * buffer + 1",
        "buffer + 1",
        "test_generator.py::test_loud_frames_countable_by_hand",
    ),
    Fault(
        "learning: scaled by the variance",
        "learning/generator.py",
        "np.float32(1 / max(s.std, 1e-6))",
        "np.float32(1 / max(s.std**2, 1e-6))",
        "test_generator.py::test_windows_equal_the_loop",
    ),
    Fault(
        "learning: validation always at the same places",
        "learning/training.py",
        "batches.set_epoch(epoch)",
        "batches.set_epoch(epoch if train else 0)",
        f"{TRAINING}::test_validation_is_cropped_anew_every_epoch",
    ),
    Fault(
        "learning: best weights not restored",
        "learning/training.py",
        "if best_weights and best:",
        "if best_weights and not best:",
        f"{TRAINING}::test_best_weights_are_those_of_the_lowest_validation_loss",
    ),
    Fault(
        "learning: last weights for the best",
        "learning/training.py",
        'if row["val_loss"] < min(',
        'if row["val_loss"] < np.inf or min(',
        f"{TRAINING}::test_best_weights_are_those_of_the_lowest_validation_loss",
    ),
    Fault(
        "learning: patience watches the training loss",
        "learning/training.py",
        'np.argmin([h["val_loss"] for h in history])',
        'np.argmin([h["loss"] for h in history])',
        f"{TRAINING}::test_training_ends_when_patience_with_the_validation_loss_does",
    ),
    Fault(
        "learning: weights of a validation step change",
        "learning/training.py",
        "model.train_on_batch if train else model.test_on_batch",
        "model.train_on_batch",
        f"{TRAINING}::test_best_weights_are_those_of_the_lowest_validation_loss",
    ),
    Fault(
        "learning: another rate than asked for",
        "learning/training.py",
        "keras.optimizers.Adam(cfg.learning_rate)",
        "keras.optimizers.Adam()",
        f"{TRAINING}::test_a_network_is_trained_with_adam_at_the_rate_asked_for",
    ),
    Fault(
        "learning: another optimiser",
        "learning/training.py",
        "keras.optimizers.Adam(cfg.learning_rate)",
        "keras.optimizers.RMSprop(cfg.learning_rate)",
        f"{TRAINING}::test_a_network_is_trained_with_adam_at_the_rate_asked_for",
    ),
    Fault(
        "learning: resumed at another rate",
        "learning/training.py",
        '("epochs", "checkpoint_every", "patience")',
        '("epochs", "checkpoint_every", "patience", "learning_rate")',
        f"{TRAINING}::test_a_training_is_named_by_all_that_decides_it_but_its_length",
    ),
    Fault(
        "learning: final network scaled by all recordings",
        "learning/training.py",
        "min_duration_s)\n    statistics = data.statistics(learned)",
        "min_duration_s)\n    statistics = data.statistics(data.items)",
        f"{POISON}::test_birds_final_network",
    ),
    Fault(
        "learning: final network learns from the tested fold",
        "learning/training.py",
        'learned = long_enough(data.part(by, "train"), min_duration_s)',
        "learned = long_enough(data.items, min_duration_s)",
        f"{POISON}::test_birds_final_network",
    ),
    Fault(
        "learning: folds scaled by all recordings",
        "learning/training.py",
        '"The network of a fold with its best weights, in float32; its curve; the statistics it was trained with."\n'
        "    statistics = data.statistics(learned)",
        '"The network of a fold with its best weights, in float32; its curve; the statistics it was trained with."\n'
        "    statistics = data.statistics(data.items)",
        f"{POISON}::test_birds_cross_validation",
    ),
    Fault(
        "learning: folds drawn from all recordings",
        "learning/training.py",
        'training, classes = data.part(by, "train"), data.classes',
        "training, classes = data.items, data.classes",
        f"{POISON}::test_birds_cross_validation",
    ),
    Fault(
        "learning: classes of a task in another order",
        "learning/tasks.py",
        "return Task(tuple(sorted(classes)), several)",
        "return Task(tuple(sorted(classes, reverse=True)), several)",
        "test_models_and_training.py::test_classes_are_sorted",
    ),
    Fault(
        "learning: classes of a run in another order",
        "learning/dataset.py",
        "Task(tuple(sorted(table.label.unique())))",
        "Task(tuple(table.label.unique()))",
        "test_models_and_training.py::test_classes_are_sorted",
    ),
    Fault(
        "learning: the first fold whichever is asked for",
        "learning/dataset.py",
        "sides_of(self.splits[split], fold, validation)",
        "sides_of(self.splits[split], self.folds(split)[0], validation)",
        "test_contract.py::test_every_recording_is_tested_once_per_repeat_and_half_a_repeat_is_not_scored",
    ),
    Fault(
        "learning: several labels compete",
        "learning/tasks.py",
        'return "sigmoid" if self.multi_label else "softmax"',
        'return "softmax"',
        "test_tagging.py::test_networks_have_as_many_parameters_as_the_published_layers",
    ),
    Fault(
        "learning: a kept network forgets its scale",
        "learning/saved_model.py",
        'Statistics(0, s["mean"], s["std"], empty, empty)',
        'Statistics(0, 0.0, s["std"], empty, empty)',
        f"{TRAINING}::test_wished_for_networks_learn_and_are_loaded_as_they_were",
    ),
    Fault(
        "export: all patches pooled, not the active ones",
        "learning/export.py",
        "ops.round(cfg.active_share * ops.sum(whole))",
        "ops.sum(whole)",
        "test_export.py::test_a_listener_and_its_members_say_of_windows_what_they_say_of_the_recording",
    ),
    Fault(
        "export: a recording that has ended is silent from there on",
        "learning/unsupervised.py",
        "constant_values=ABSENT",
        "constant_values=0",
        "test_export.py::test_recordings_shorter_than_a_window_are_answered_as_by_the_listener",
    ),
    Fault(
        "interpreters: a file for one window is given all of them",
        "learning/interpreters.py",
        "one_by_one(windows) if 1 in first else [windows]",
        "[windows]",
        "test_export.py::test_every_form_of_a_network_gives_what_keras_gives",
    ),
    Fault(
        "interpreters: inputs of a listener in the order of their names",
        "learning/interpreters.py",
        "for name in self.shapes], axis=1), frames",
        "for name in sorted(self.shapes, reverse=True)], axis=1), frames",
        "test_export.py::test_a_listener_in_a_file_hears_recordings_as_the_listener_does",
    ),
    Fault(
        "converters: bits that a form does not have are passed over",
        "learning/converters.py",
        'if precision != "float32" and path.suffix != ".tflite":',
        'if precision == "float64":',
        "test_export.py::test_what_cannot_be_exported_is_refused",
    ),
    Fault(
        "export: agreement measured where it was calibrated",
        "learning/export.py",
        "drawn_windows(saved, store, ids[1::2], n)",
        "drawn_windows(saved, store, ids[::2], n)",
        "test_export.py::test_windows_come_from_the_recordings_that_it_learnt_from_and_no_other",
    ),
    Fault(
        "learning: done whatever the data",
        "learning/reuse.py",
        "dict(settings=settings, data=data, code=code)",
        "dict(settings=settings, code=code)",
        "test_contract.py::test_a_key_changes_with_settings_data_and_code",
    ),
    Fault(
        "learning: done whatever is known of the recordings",
        "learning/reuse.py",
        "hashlib.sha256(table.to_csv(index=False).encode()).hexdigest()",
        'hashlib.sha256(b"").hexdigest()',
        "test_contract.py::test_a_key_changes_with_settings_data_and_code",
    ),
    Fault(
        "learning: waves cut one sample late",
        "learning/wave_batches.py",
        "samples[first[w] + max(0, offset[w]) :",
        "samples[first[w] + 1 + max(0, offset[w]) :",
        "test_waves.py::test_windows_by_hand",
    ),
    Fault(
        "learning: a cache outlives the shards it was made from",
        "learning/shard_batches.py",
        "repr((shards.sha256, shards.config))",
        "repr(shards.config)",
        "test_shards.py::test_shards_made_anew_are_cached_anew",
    ),
    Fault(
        "learning: all machines read all files",
        "learning/shard_batches.py",
        "AutoShardPolicy.FILE",
        "AutoShardPolicy.OFF",
        "test_shards.py::test_two_machines_share_out_the_files",
    ),
    Fault(
        "learning: an order for ever",
        "learning/shard_batches.py",
        "data.shuffle(buffer, seed)",
        "data.shuffle(buffer, seed, False)",
        "test_shards.py::test_every_pass_has_its_order_and_every_seed_its_own",
    ),
    Fault(
        "learning: columns of probabilities by their names",
        "learning/predictions.py",
        "sorted(names, key=lambda c: int(c[2:]))",
        "sorted(names)",
        "test_metrics.py::test_columns_of_probabilities_come_in_the_order_of_the_classes",
    ),
    Fault(
        "learning: pooled by the largest",
        "learning/predictions.py",
        "return p.mean(axis=0)",
        "return p.max(axis=0)",
        "test_metrics.py::test_pooled_windows_stay_distributions_between_their_windows",
    ),
    Fault(
        "learning: temperatures tried on all folds",
        "learning/predictions.py",
        'predictions[predictions.fold == folds_of(predictions.fold)[0]] if "fold" in predictions else predictions',
        "predictions",
        "test_calibration.py::test_what_was_fitted_to_one_network_is_tried_on_what_that_network_was_tested_on",
    ),
    Fault(
        "learning: pictures not scaled",
        "learning/picture_batches.py",
        "np.float32(1 / 255)",
        "np.float32(1)",
        "test_images.py::test_batches_hold_every_picture_once_an_epoch",
    ),
    # ---- published networks
    Fault(
        "networks: pooled before the convolution",
        "learning/models.py",
        "x = layers.Conv2D(filters, kernel, use_bias=False)(x)\n    x = layers.MaxPooling2D(pool)(x)",
        "x = layers.MaxPooling2D(pool)(x)\n    x = layers.Conv2D(filters, kernel, use_bias=False)(x)",
        f"{NETWORKS}::test_networks_of_the_bird_study",
    ),
    Fault(
        "networks: stride of 2",
        "learning/models.py",
        "layers.Conv2D(filters, kernel, use_bias=False)",
        "layers.Conv2D(filters, kernel, strides=(1, 2), use_bias=False)",
        f"{NETWORKS}::test_networks_of_the_bird_study",
    ),
    Fault(
        "networks: kernel of bird networks",
        "studies/birds/networks.py",
        "kernels=((4, 1),) * 3",
        "kernels=((1, 4),) * 3",
        f"{NETWORKS}::test_networks_of_the_bird_study",
    ),
    Fault(
        "networks: pools of bird networks",
        "studies/birds/networks.py",
        "pools=((2, 2),) * 3",
        "pools=((2, 2), (2, 2), (3, 3))",
        f"{NETWORKS}::test_networks_of_the_bird_study",
    ),
    Fault(
        "networks: dropout of bird networks",
        "studies/birds/networks.py",
        "dropout: float = 0.2,  # share of values dropped after each block in training",
        "dropout: float = 0.3,  # share of values dropped after each block in training",
        f"{NETWORKS}::test_networks_of_the_bird_study",
    ),
    Fault(
        "networks: activation of bird networks",
        "learning/models.py",
        'layers.Activation("relu")',
        'layers.Activation("elu")',
        f"{NETWORKS}::test_networks_of_the_bird_study",
    ),
    Fault(
        "networks: L2 of music networks",
        "studies/music/networks.py",
        "_r, _deep = dict(l2=0.003)",
        "_r, _deep = dict(l2=0.001)",
        f"{NETWORKS}::test_networks_of_the_music_study",
    ),
    Fault(
        "networks: dropout of music networks",
        "studies/music/networks.py",
        '"9": partial(image_net, **_deep, kernel=5, dropout=0.5',
        '"9": partial(image_net, **_deep, kernel=5, dropout=0.3',
        f"{NETWORKS}::test_networks_of_the_music_study",
    ),
    Fault(
        "networks: dense layers of music networks not penalised",
        "studies/music/networks.py",
        'n, activation="relu", kernel_regularizer=_penalty(l2)',
        'n, activation="relu", kernel_regularizer=None',
        f"{NETWORKS}::test_networks_of_the_music_study",
    ),
    Fault(
        "networks: pool of the wave network",
        "studies/tagging/networks.py",
        "((16, 9, 16, 0.1), (32, 3, 4, 0.1)",
        "((16, 9, 8, 0.1), (32, 3, 4, 0.1)",
        f"{NETWORKS}::test_the_raw_wave_network_of_the_tagging_study",
    ),
    Fault(
        "networks: normalised after the activation",
        "studies/tagging/networks.py",
        'x = layers.Activation("relu")(layers.BatchNormalization()(x))\n        x',
        'x = layers.BatchNormalization()(layers.Activation("relu")(x))\n        x',
        f"{NETWORKS}::test_the_mfcc_network_of_the_tagging_study",
    ),
    Fault(
        "networks: windows not standardised",
        "studies/tagging/networks.py",
        "return (x - self.mean) / self.deviation",
        "return x - self.mean",
        "test_tagging.py::test_the_mfcc_network_scales_by_training_windows_and_keeps_that_when_saved",
    ),
    # ---- scoring
    Fault(
        "bayes: fitted on test",
        "scoring/benchmark.py",
        "fit_naive_bayes(x[is_train], y[is_train])",
        "fit_naive_bayes(x, y)",
        f"{POISON}::test_birds_baselines",
    ),
    Fault(
        "bayes: scaled by all recordings",
        "scoring/benchmark.py",
        "statistics = store.statistics(table.recording_id[is_train])",
        "statistics = store.statistics(table.recording_id)",
        "test_benchmark.py::test_windows_are_scaled_by_the_training_part_alone",
    ),
    Fault(
        "scoring: commonest label counted over test",
        "scoring/benchmark.py",
        "majority_label(labels[is_train])",
        "majority_label(labels)",
        f"{POISON}::test_birds_baselines_whatever_the_labels_to_be_guessed",
    ),
    Fault(
        "scoring: no-audio baseline counted over test",
        "scoring/benchmark.py",
        "no_audio_predict(sessions[is_train], labels[is_train], sessions)",
        "no_audio_predict(sessions, labels, sessions)",
        f"{POISON}::test_birds_baselines_whatever_the_labels_to_be_guessed",
    ),
    Fault(
        "scoring: duration baseline fitted on test",
        "scoring/benchmark.py",
        "duration_predict(duration_s[is_train], labels[is_train], duration_s, seed)",
        "duration_predict(duration_s, labels, duration_s, seed)",
        f"{POISON}::test_birds_baselines_whatever_the_labels_to_be_guessed",
    ),
    Fault(
        "scoring: commonest label by order of rows",
        "scoring/benchmark.py",
        "return str(names[counts.argmax()])",
        "return str(names[len(counts) - 1 - counts[::-1].argmax()])",
        "test_benchmark.py::test_majority_does_not_depend_on_the_order_of_rows",
    ),
    Fault(
        "scoring: words of metadata counted over test",
        "scoring/leaks.py",
        "max_features=12).fit(types[is_train])",
        "max_features=12).fit(types)",
        "test_leaks.py::test_metadata_are_counted_in_the_training_part_alone",
    ),
    Fault(
        "scoring: recordists counted over test",
        "scoring/leaks.py",
        "busy = table.recordist[is_train].value_counts()",
        "busy = table.recordist.value_counts()",
        "test_leaks.py::test_metadata_are_counted_in_the_training_part_alone",
    ),
    Fault(
        "scoring: metadata forest fitted on test",
        "scoring/leaks.py",
        "known[is_train].to_numpy(), table.label[is_train].to_numpy(dtype=str)",
        "known.to_numpy(), table.label.to_numpy(dtype=str)",
        f"{POISON}::test_metadata_baseline",
    ),
    Fault(
        "scoring: audit counts twins of one fold",
        "scoring/leaks.py",
        "pd.concat([twins(table, side, copies) for side in sides])",
        "pd.concat([twins(table, side, copies) for side in sides[:1]])",
        "test_leaks.py::test_an_audit_of_folds_counts_every_recording_once",
    ),
    Fault(
        "scoring: audit scores one fold",
        "scoring/leaks.py",
        "scores[name] = accuracy_score(right.mean(axis=0), people)",
        "n = answers[0][name].shape[1]\n        scores[name] = accuracy_score(right.mean(axis=0)[:n], people[:n])",
        "test_leaks.py::test_the_interval_of_a_forest_belongs_to_its_mean_over_seeds",
    ),
    Fault(
        "scoring: audit takes recordists for stated groups",
        "scoring/leaks.py",
        'stated_groups(table).to_numpy()[side == "test"]',
        'table.recordist.to_numpy()[side == "test"]',
        "test_leaks.py::test_people_are_what_the_data_state_and_a_baseline_that_is_never_right_is_given_room",
    ),
    Fault(
        "scoring: temperature fitted on test",
        "nbs/scoring/calibration.ipynb",
        "fit_temperature(p_validation, truth_validation)",
        "fit_temperature(p, truth)",
        "test_calibration.py::test_the_job_fits_on_validation_and_scores_on_test",
    ),
    Fault(
        "scoring: temperature tried on what its network learned from",
        "nbs/scoring/calibration.ipynb",
        "test_rows = kept_predictions(run, main_split)",
        'test_rows = pd.read_parquet(run / \\"predictions.parquet\\").query(\\"split == @main_split\\")',
        "test_calibration.py::test_what_was_fitted_to_one_network_is_tried_on_what_that_network_was_tested_on",
    ),
    Fault(
        "scoring: thresholds chosen on test",
        "nbs/scoring/calibration.ipynb",
        "at_temperature(p_validation, temperature), truth_validation, classes",
        "at_temperature(p, temperature), truth, classes",
        "test_calibration.py::test_the_job_fits_on_validation_and_scores_on_test",
    ),
    Fault(
        "scoring: highest threshold for the lowest",
        "scoring/calibration.py",
        "float(thresholds[good[0]])",
        "float(thresholds[good[-1]])",
        "test_calibration.py::test_thresholds_agree_with_trying_them_all",
    ),
    Fault(
        "scoring: the stand-in for the unknown keeps its own column",
        "scoring/open_set.py",
        "left = p[~truth].reshape(len(p), p.shape[1] - 1)",
        "left = np.delete(p, 0, axis=1)",
        "test_open_set.py::test_the_stand_in_never_sees_the_struck_column",
    ),
    Fault(
        "scoring: what is unknown chosen on what the kept model was tested on",
        "scoring/open_set.py",
        "others, tested = tested[~kept], tested[kept]",
        "others, tested = tested, tested[kept]",
        "test_open_set.py::test_what_the_kept_model_was_tested_on_has_no_part_in_its_setting",
    ),
    Fault(
        "scoring: a setting of another model is taken",
        "scoring/open_set.py",
        'return facts if facts["model"] == _model_digest(folder) else None',
        "return facts",
        "test_open_set.py::test_a_setting_of_another_model_is_passed_over_and_a_damaged_one_is_named",
    ),
    Fault(
        "scoring: temperature the wrong way round",
        "scoring/calibration.py",
        "np.log(np.asarray(p, dtype=np.float64)) / temperature",
        "np.log(np.asarray(p, dtype=np.float64)) * temperature",
        "test_calibration.py::test_temperature_agrees_with_scikit_learn",
    ),
    Fault(
        "scoring: ties count in full",
        "scoring/metrics.py",
        "(score == p[:, c]) / 2",
        "(score == p[:, c])",
        "test_metrics.py::test_scores_agree_with_scikit_learn",
    ),
    Fault(
        "scoring: average precision without ties",
        "scoring/metrics.py",
        "(p[present, c][:, None] <= p[:, c])",
        "(p[present, c][:, None] < p[:, c])",
        "test_metrics.py::test_scores_agree_with_scikit_learn",
    ),
    Fault(
        "scoring: lwlrap without ties",
        "scoring/metrics.py",
        "before = p >= p[:, [c]]",
        "before = (p > p[:, [c]]) | (np.arange(p.shape[1]) == c)",
        "test_metrics.py::test_lwlrap_by_hand_with_several_labels",
    ),
    Fault(
        "scoring: absent classes count as F1 of 0",
        "scoring/metrics.py",
        "present + w @ named), np.nan)",
        "present + w @ named), 0.0)",
        "test_metrics.py::test_macro_means_run_over_the_species_present",
    ),
    Fault(
        "scoring: 1.96 whatever the groups",
        "scoring/intervals.py",
        "t = t_quantile(sizes, level)",
        "t = 1.96",
        "test_intervals.py::test_equal_groups_get_the_textbook_interval_of_their_means",
    ),
    Fault(
        "scoring: variance over n groups",
        "scoring/intervals.py",
        "np.sqrt((n - 1) / n * np.square",
        "np.sqrt((n - 1) / n * (n - 1) / n * np.square",
        "test_intervals.py::test_t_of_equal_groups_is_students",
    ),
    Fault(
        "scoring: Holm without its order",
        "scoring/intervals.py",
        "np.maximum.accumulate(factors * p[order])",
        "factors * p[order]",
        "test_intervals.py::test_holm_by_hand",
    ),
    Fault(
        "scoring: an interval of three groups",
        "scoring/intervals.py",
        "MIN_GROUPS = 6",
        "MIN_GROUPS = 3",
        "test_intervals.py::test_too_few_groups_are_said_to_be_too_few",
    ),
    Fault(
        "scoring: intervals as if nothing else were compared",
        "scoring/intervals.py",
        "t_quantile(d.sizes, 1 - (1 - level) / left)",
        "t_quantile(d.sizes, level)",
        "test_intervals.py::test_corrected_intervals_by_hand",
    ),
    Fault(
        "scoring: differences surer than two answers",
        "scoring/intervals.py",
        "np.maximum(jackknife_se(value, without), least)",
        "jackknife_se(value, without)",
        "test_intervals.py::test_where_all_groups_are_alike",
    ),
    Fault(
        "scoring: confusion turned round",
        "scoring/evaluation.py",
        "([index[t] for t in true], [index[p] for p in predicted])",
        "([index[p] for p in predicted], [index[t] for t in true])",
        "test_evaluation.py::test_confusion_agrees_with_scikit_learn",
    ),
    Fault(
        "scoring: an interval over recordings for one over people",
        "scoring/evaluation.py",
        "accuracy_score(right, groups.loc[right.index])",
        "accuracy_score(right, right.index)",
        "test_evaluation.py::test_scores_have_the_interval_of_their_groups",
    ),
    Fault(
        "scoring: training parts of all folds together",
        "scoring/evaluation.py",
        '(sides == "train").mean(axis=0)',
        '(sides == "train").any(axis=0)',
        "test_evaluation.py::test_sizes_of_training_parts_are_means_over_folds",
    ),
    Fault(
        "scoring: stack chooses its freedom with sources cut apart",
        "scoring/ensembles.py",
        "groups=np.asarray(groups, dtype=str)",
        "groups=np.arange(len(truth))",
        "test_ensembles.py::test_regularisation_is_chosen_with_sources_whole",
    ),
    Fault(
        "scoring: arithmetic for the geometric mean",
        "scoring/ensembles.py",
        "np.exp(np.tensordot(w, np.log(np.maximum(p, FLOOR)), 1))",
        "np.tensordot(w, np.maximum(p, FLOOR), 1)",
        "test_ensembles.py::test_means_by_hand",
    ),
    Fault(
        "scoring: best member chosen on test",
        "scoring/ensembles.py",
        "best_member({name: validation[name] for name in members}, metric)",
        "best_member({name: float(METRICS[metric](p, truth)) for name, p in members.items()}, metric)",
        "test_ensembles.py::test_the_best_member_is_chosen_by_validation_and_not_by_the_test_part",
    ),
    Fault(
        "scoring: combinations not corrected for being many",
        "scoring/ensembles.py",
        "zip(others, holm_intervals(gaps, level), strict=True)",
        "zip(others, gaps, strict=True)",
        "test_ensembles.py::test_many_equal_combinations_do_not_help_by_chance",
    ),
    Fault(
        "scoring: half a repeat is scored",
        "scoring/jobs.py",
        "if job.place[:3] not in unfinished]",
        'if (job.out / "done.json").exists()]',
        "test_contract.py::test_every_recording_is_tested_once_per_repeat_and_half_a_repeat_is_not_scored",
    ),
    Fault(
        "scoring: best version chosen on test",
        "scoring/comparison_table.py",
        "table.validation.dropna()",
        "table.value.dropna()",
        "test_comparison.py::test_the_best_and_its_rivals_are_chosen_where_they_were_validated",
    ),
    Fault(
        "scoring: rivals chosen on test",
        "scoring/comparison_table.py",
        'answers[(answers.part == "validation") & (answers.split == split)]',
        'answers[(answers.part == "test") & (answers.split == split)]',
        "test_comparison.py::test_the_best_and_its_rivals_are_chosen_where_they_were_validated",
    ),
    Fault(
        "scoring: answers of validation scored as tested",
        "scoring/comparison_table.py",
        'test = rows[rows.part == "test"]',
        "test = rows",
        "test_comparison.py::test_the_best_and_its_rivals_are_chosen_where_they_were_validated",
    ),
    Fault(
        "scoring: seeds of either version compared",
        "scoring/comparison_table.py",
        "set(first.seed) & set(second.seed)",
        "set(first.seed) | set(second.seed)",
        "test_comparison.py::test_a_difference_is_one_of_the_seeds_of_both",
    ),
    Fault(
        "scoring: gaps over all seeds",
        "scoring/comparison_table.py",
        'pairs = {v: matched(x["value"], x[other])',
        'pairs = {v: (x["value"], x[other], 1)',
        "test_comparison.py::test_a_gap_between_splits_is_one_of_the_seeds_of_both",
    ),
    Fault(
        "scoring: better after one repeat",
        "scoring/comparison_table.py",
        "MIN_SEEDS = 3",
        "MIN_SEEDS = 1",
        "test_comparison.py::test_nothing_is_better_or_worse_on_fewer_than_three_repeats",
    ),
    Fault(
        "scoring: verdict whatever the number of repeats",
        "scoring/comparison_table.py",
        "if n_seeds < MIN_SEEDS:",
        "if n_seeds < 0:",
        "test_comparison.py::test_nothing_is_better_or_worse_on_fewer_than_three_repeats",
    ),
    Fault(
        "scoring: worse for better",
        "scoring/comparison_table.py",
        '"better" if difference.low > 0',
        '"better" if difference.low < 0',
        "test_comparison.py::test_nothing_is_better_or_worse_on_fewer_than_three_repeats",
    ),
    Fault(
        "scoring: differences not corrected for being many",
        "scoring/comparison_table.py",
        "holm_intervals([difference for difference, _, _ in found.values()])",
        "[difference for difference, _, _ in found.values()]",
        "test_comparison.py::test_what_is_told_alone_is_not_told_as_one_of_twenty",
    ),
    Fault(
        "scoring: verdict on the interval before correction",
        "scoring/comparison_table.py",
        "verdict=verdict(c, n)",
        "verdict=verdict(found[version][0], n)",
        "test_comparison.py::test_what_is_told_alone_is_not_told_as_one_of_twenty",
    ),
    Fault(
        "scoring: gaps not corrected for being many",
        "scoring/comparison_table.py",
        "holm_intervals([score_difference(first, second, task) for first, second, _ in pairs.values()])",
        "[score_difference(first, second, task) for first, second, _ in pairs.values()]",
        "test_comparison.py::test_a_gap_told_alone_is_not_told_as_one_of_twenty",
    ),
    Fault(
        "scoring: test parts of all seeds counted as one",
        "scoring/comparison.py",
        'tested.groupby(["seed", "fold"])',
        'tested.groupby(["fold"])',
        "test_contract.py::test_an_invented_study_is_listed_run_compared_and_reported",
    ),
    # ---- families of experiments
    Fault(
        "ablation: variants beside the study's reference",
        "studies/contract.py",
        "_base(v, experiments) or self.reference",
        "self.reference",
        "test_ablation.py::test_every_variant_of_the_ablation_changes_what_is_trained_and_is_held_against_its_base",
    ),
    Fault(
        "ablation: variants of the original, not of the base",
        "runs/catalogue.py",
        '[base, *(_changed(base, f"{name}-{k}", c)',
        '[base, *(_changed(catalogue[entry["of"]], f"{name}-{k}", c, **more)',
        "test_ablation.py::test_a_family_is_a_base_and_one_change_each",
    ),
    Fault(
        "ablation: a curve told as changes",
        "scoring/ablation.py",
        'if (base in found["curves"]) == curves',
        'if (base in found["curves"]) <= curves',
        "test_ablation.py::test_a_curve_is_a_family_that_learned_from_fewer_and_follows_a_power_law",
    ),
    Fault(
        "ablation: the test part made smaller, too",
        "data/splits.py",
        '(out[order] == "train") & (labels[order] == label)',
        '(out[order] != "") & (labels[order] == label)',
        "test_ablation.py::test_fewer_recordings_to_learn_from_counted_by_hand",
    ),
    Fault(
        "ablation: other recordings for every number",
        "data/splits.py",
        "np.random.default_rng([seed, 11])",
        "np.random.default_rng([seed, per_label])",
        "test_ablation.py::test_fewer_recordings_to_learn_from_counted_by_hand",
    ),
    Fault(
        "ablation: a job learns from all",
        "learning/dataset.py",
        "fewer_to_learn(sides, self.items.label, self.per_label, self.seed)",
        "fewer_to_learn(sides, self.items.label, 0, self.seed)",
        "test_ablation.py::test_a_training_is_left_with_fewer_recordings_and_all_are_tested",
    ),
    Fault(
        "ablation: how many it learned from does not count as a setting",
        "studies/birds/contract.py",
        'fewer = dict(per_label=parameters.get("per_label", 0))',
        "fewer = dict(per_label=0)",
        "test_ablation.py::test_every_variant_of_the_ablation_changes_what_is_trained_and_is_held_against_its_base",
    ),
    Fault(
        "ablation: PCEN in frames of another length",
        "sound/whitening.py",
        "n = 0.4 / FRAME_S",
        "n = 0.2 / FRAME_S",
        "test_ablation.py::test_two_other_ways_to_whiten",
    ),
    Fault(
        "ablation: backgrounds added to all windows",
        "learning/residual.py",
        "* chosen[:, None, None]",
        "* (chosen | True)[:, None, None]",
        "test_ablation.py::test_the_quietest_stretch_of_another_recording_is_added_in_power",
    ),
    Fault(
        "ablation: the loudest stretch for a background",
        "learning/residual.py",
        "np.argmin(total[n_frames:]",
        "np.argmax(total[n_frames:]",
        "test_ablation.py::test_the_quietest_stretch_of_another_recording_is_added_in_power",
    ),
    Fault(
        "ablation: windows by activity whatever is asked for",
        "learning/residual.py",
        "activity(x) + 1e-3 if cfg.by_activity else",
        "activity(x) + 1e-3 if True else",
        "test_ablation.py::test_windows_from_anywhere",
    ),
    Fault(
        "ablation: binary in name only",
        "learning/models.py",
        'if loss == "softmax" else',
        'if loss != "" else',
        "test_ablation.py::test_a_label_for_itself_learns_from_shares_of_its_own",
    ),
    # ---- runs
    Fault(
        "runs: name whatever the parameters",
        "runs/catalogue.py",
        "parameters=self.parameters, data=self.data)",
        "data=self.data)",
        "test_pipeline.py::test_a_run_is_named_by_experiment_parameters_and_data",
    ),
    Fault(
        "runs: smoke form over the command line",
        "runs/catalogue.py",
        "{**experiment.parameters, **(experiment.smoke if smoke else {}), **(changes or {})}",
        "{**experiment.parameters, **(changes or {}), **(experiment.smoke if smoke else {})}",
        "test_pipeline.py::test_what_is_said_on_the_command_line_wins",
    ),
    Fault(
        "runs: the code of a step does not count",
        "runs/runner.py",
        "facts = [cells, given, data, notebook_code(notebook, contract)]",
        "facts = [cells, given, data]",
        "test_contract.py::test_old_answers_are_never_given_for_other_settings_or_code_and_again_makes_anew",
    ),
    Fault(
        "runs: the audio of a data source does not count",
        "runs/runner.py",
        "dict(digest=_text_digest(*rows, *audio), stamp=stamp)",
        "dict(digest=_text_digest(*rows), stamp=stamp)",
        "test_contract.py::test_old_answers_are_never_given_for_other_data",
    ),
    Fault(
        "stores: a file that pretends to be as old is not looked at",
        "stores/store.py",
        "-{status.st_ctime_ns}",
        "",
        "test_stores.py::test_another_sound_of_the_same_size_and_time_is_noticed",
    ),
    Fault(
        "runs: any number is taken for a parameter",
        "runs/catalogue.py",
        "parameter.low <= value <= parameter.high",
        "value <= parameter.high",
        "test_catalogue.py::test_what_is_no_value_of_a_parameter_is_refused_before_anything_runs",
    ),
    Fault(
        "training: an empty validation.parquet without folds",
        "learning/training.py",
        "    if n_folds:  # without",
        "    if True:  # without",
        "test_catalogue.py::test_an_entry_runs_to_its_end_with_all_its_notebooks",
    ),
    Fault(
        "runs: worst first on the leaderboard",
        "runs/leaderboard.py",
        "ascending=[True, True, False]",
        "ascending=[True, True, True]",
        "test_pipeline.py::test_the_leaderboard_has_the_best_finished_run_first",
    ),
    Fault(
        "runs: unfinished runs on the leaderboard",
        "runs/leaderboard.py",
        'manifest.get("status") == "done"',
        'manifest.get("status") != ""',
        "test_pipeline.py::test_the_leaderboard_has_the_best_finished_run_first",
    ),
    Fault(
        "runs: a step is done whatever its parameters",
        "runs/runner.py",
        "facts = [cells, given, data, notebook_code(notebook, contract)]",
        "facts = [cells, data, notebook_code(notebook, contract)]",
        "test_pipeline.py::test_a_step_is_another_one_when_cells_parameters_or_data_change",
    ),
    # ---- studies
    Fault(
        "speech: the last weights are kept, not the best",
        "studies/speech/study.py",
        "        model.set_weights(best)",
        "        pass",
        "test_speech.py::test_the_weights_of_the_best_epoch_are_kept_and_patience_ends_a_training",
    ),
    Fault(
        "speech: shards are not read before training",
        "studies/speech/study.py",
        "        of_part.verify()",
        "        pass",
        "test_speech.py::test_a_cut_off_shard_is_named_and_refused_before_training_begins",
    ),
    Fault(
        "speech: any length is classified",
        "studies/speech/study.py",
        "if len(y) != n_samples:",
        "if False:",
        "test_speech.py::test_a_file_is_classified_as_in_the_run_at_any_rate_and_no_other_length",
    ),
    Fault(
        "speech: baselines learn from what is tested",
        "studies/speech/baselines.py",
        'data.items, data.on_side(by, "train")',
        'data.items, data.on_side(by, "train") | True',
        "test_speech.py::test_baselines_learn_nothing_from_what_is_tested",
    ),
    Fault(
        "speech: mixtures of sentences that have changed since",
        "studies/speech/recordings.py",
        "fingerprint(table, code), ",
        "",
        "test_speech.py::test_other_sentences_make_other_mixtures_and_the_same_ones_none",
    ),
    Fault(
        "speech: no slope in the second channel",
        "studies/speech/networks.py",
        'slope = Delta(dtype="float32", name="delta")(x)',
        "slope = x",
        "test_speech.py::test_the_second_channel_is_the_slope_of_the_first",
    ),
    Fault(
        "speech: pictures in the wrong epochs",
        "studies/speech/monitoring.py",
        "(epoch + 1) % self.every == 0",
        "epoch % self.every == 0",
        "test_speech.py::test_tensorboard_holds_curves_reports_and_pictures_of_both_parts",
    ),
    Fault(
        "speech: an account is asked for",
        "studies/speech/monitoring.py",
        'else "offline"',
        'else "online"',
        "test_speech.py::test_weights_and_biases_is_offline_without_a_key_and_is_told_every_epoch",
    ),
    Fault(
        "music: training stops by the test part",
        "studies/music/study.py",
        "for part in SIDES[:2])",
        "for part in SIDES[::2])",
        f"{POISON}::test_music_network",
    ),
    Fault(
        "music: tested clips are learned from",
        "studies/music/study.py",
        'rows, training = data.part(by, part), part == "train"',
        'rows, training = data.items if part == "train" else data.part(by, part), part == "train"',
        f"{POISON}::test_music_network",
    ),
    Fault(
        "music: naive Bayes fitted on test",
        "studies/music/study.py",
        "GaussianNB().fit(x[train], labels[train])",
        "GaussianNB().fit(x, labels)",
        f"{POISON}::test_music_baselines",
    ),
    Fault(
        "music: commonest label counted over test",
        "studies/music/study.py",
        "majority=majority_label(labels[train])",
        "majority=majority_label(labels)",
        f"{POISON}::test_music_baselines",
    ),
    Fault(
        "music: validation augmented",
        "studies/music/study.py",
        "changes = augmentation if training else Augmentation()",
        "changes = augmentation",
        "test_music.py::test_pictures_to_validate_on_stay_clean",
    ),
    Fault(
        "transfer: tested recordings are learned from",
        "studies/transfer/study.py",
        'items, curves = data.part(by, "train"), []',
        "items, curves = data.items, []",
        f"{POISON}::test_transfer_network",
    ),
    Fault(
        "transfer: naive Bayes fitted on test",
        "studies/transfer/study.py",
        "GaussianNB().fit(x[train], labels[train])",
        "GaussianNB().fit(x, labels)",
        f"{POISON}::test_transfer_baselines",
    ),
    Fault(
        "transfer: stage one trains the base, too",
        "studies/transfer/networks.py",
        "layer.trainable = everything or layer.name == LAST",
        "layer.trainable = True",
        "test_transfer.py::test_inception_is_as_published_and_stage_one_trains_the_last_layer_only",
    ),
    Fault(
        "transfer: the base has heard the birds of the study",
        "studies/transfer/study.py",
        "without=list(without), test_folds=1",
        "test_folds=1",
        "test_transfer.py::test_the_base_from_the_aviary_hears_no_species_of_the_study_and_is_made_once",
    ),
    Fault(
        "tagging: the hidden fold is taught",
        "studies/tagging/folds.py",
        'data.on_side("part", "train") & ~data.on_side("fold", fold)',
        'data.on_side("part", "train")',
        f"{POISON}::test_tagging_teaches_neither_the_hidden_fold_nor_test_clips",
    ),
    Fault(
        "tagging: the first fold whichever is to be tested",
        "studies/tagging/clips.py",
        "test_fold=int(fold) - 1",
        "test_fold=0",
        "test_tagging.py::test_a_test_fold_is_prepared_beside_the_others_and_trains_folds_of_its_own",
    ),
    Fault(
        "tagging: the fold that was prepared whichever is to be tested",
        "studies/tagging/clips.py",
        'if fold != "test":',
        'if fold == "test":',
        "test_tagging.py::test_a_test_fold_is_prepared_beside_the_others_and_trains_folds_of_its_own",
    ),
    Fault(
        "tagging: one clip set is tested at every fold",
        "studies/tagging/clips.py",
        "cfg.seed, task.classes) == cfg.test_fold",
        "cfg.seed, task.classes) == 0",
        "test_tagging.py::test_every_curated_clip_is_tested_once_over_the_test_folds_of_a_seed",
    ),
    Fault(
        "tagging: test folds the same at every seed",
        "studies/tagging/clips.py",
        "label_folds(truth, groups, cfg.test_folds, cfg.seed,",
        "label_folds(truth, groups, cfg.test_folds, 0,",
        "test_tagging.py::test_every_curated_clip_is_tested_once_over_the_test_folds_of_a_seed",
    ),
    Fault(
        "tagging: test clips are taught",
        "studies/tagging/folds.py",
        'data.items[other_folds | data.on_side("part", "noisy")]',
        'data.items[other_folds | ~data.on_side("part", "train")]',
        f"{POISON}::test_tagging_teaches_neither_the_hidden_fold_nor_test_clips",
    ),
    Fault(
        "tagging: stack fitted on test",
        "studies/tagging/answers.py",
        "stack(hidden_p, task.targets(train.label) > 0, members, task.multi_label, groups, seed)",
        'stack(members, task.targets(data.part("part", "test").label) > 0, members, task.multi_label, '
        'data.part("part", "test").group.to_numpy(), seed)',
        f"{POISON}::test_tagging_stack",
    ),
    Fault(
        "tagging: MFCCs scaled by all clips",
        "studies/tagging/folds.py",
        'data.stores["mfcc"].statistics(rows.recording_id)',
        'data.stores["mfcc"].statistics(data.items.recording_id)',
        f"{POISON}::test_tagging_networks",
    ),
    Fault(
        "tagging: naive Bayes scaled by the clips that it predicts",
        "studies/tagging/answers.py",
        "StandardScaler().fit(x)",
        "StandardScaler().fit(np.vstack([x, others]))",
        f"{POISON}::test_tagging_clips_are_judged_alone",
    ),
    Fault(
        "tagging: shares of the hidden fold known",
        "studies/tagging/answers.py",
        "class_shares(truth[~hidden], hidden.sum())",
        "class_shares(truth, hidden.sum())",
        f"{POISON}::test_tagging_baselines_of_a_fold_do_not_know_it",
    ),
    Fault(
        "tagging: naive Bayes knows the hidden fold",
        "studies/tagging/answers.py",
        "naive_bayes(x[~hidden], truth[~hidden], x[hidden], data.task)",
        "naive_bayes(x, truth, x[hidden], data.task)",
        f"{POISON}::test_tagging_baselines_of_a_fold_do_not_know_it",
    ),
    Fault(
        "tagging: wrong labels validated on",
        "studies/tagging/folds.py",
        "batches_of(data, hidden, hidden.label, network",
        "batches_of(data, hidden, hidden.taught, network",
        "test_tagging.py::test_clips_to_validate_on_stay_clean",
    ),
    Fault(
        "tagging: validation augmented",
        "studies/tagging/folds.py",
        "task, statistics, seed=seed)\n    rest",
        "task, statistics, seed=seed, augment=True)\n    rest",
        "test_tagging.py::test_clips_to_validate_on_stay_clean",
    ),
    Fault(
        "birds: a diverged trial wins",
        "studies/birds/search.py",
        'history["val_loss"] = history.val_loss.fillna(\n        np.inf',
        'history["val_loss"] = history.val_loss.fillna(\n        -np.inf',
        "test_search.py::test_a_setting_that_diverges_loses_and_does_not_stop_the_search",
    ),
    Fault(
        "studies: mixtures draw from all sides",
        "studies/speech/mixtures.py",
        "casts = _casts(labels[side.index[side == name]], cfg)",
        "casts = _casts(labels[side.index], cfg)",
        "test_mixtures.py::test_speakers_of_one_side_are_on_no_other",
    ),
    Fault(
        "studies: a loud mixture clips",
        "studies/speech/mixtures.py",
        "np.float32(min(1, PEAK / max(",
        "np.float32(min(1, 3 * PEAK / max(",
        "test_mixtures.py::test_the_studys_own_length_is_1_323_000_samples",
    ),
    Fault(
        "studies: a mixture that is cut off is kept",
        "studies/speech/mixtures.py",
        "if note.exists() and is_whole(wav, cfg):",
        "if note.exists():",
        "test_mixtures.py::test_a_file_that_is_not_whole_is_made_again_and_no_other",
    ),
    Fault(
        "studies: mixtures of chance that is not the seed's",
        "studies/speech/mixtures.py",
        "chance(seed, 91, number), bad)",
        "np.random.default_rng(), bad)",
        "test_mixtures.py::test_same_seed_same_bytes_whatever_the_threads",
    ),
    Fault(
        "studies: one sex in a mixture of both",
        "studies/speech/mixtures.py",
        "labels = rng.permutation([*sure, *rng.choice(single, len(places) - len(sure))])",
        "labels = rng.choice(sure[:1], len(places))",
        "test_mixtures.py::test_times_and_levels_are_the_same_for_every_class",
    ),
    Fault(
        "studies: speakers in several groups",
        "studies/speech/mixtures.py",
        "{c: members[k::n] for c, members in names.items()}",
        "{c: members for c, members in names.items()}",
        "test_mixtures.py::test_groups_say_which_mixtures_share_speakers",
    ),
    Fault(
        "studies: a short base is not repeated",
        "studies/speech/mixtures.py",
        "np.resize(np.roll(base, -start), len(y))",
        "np.pad(base, (0, -spare))",
        "test_mixtures.py::test_a_base_lies_beneath_the_voices",
    ),
    # ---- field: review
    Fault(
        "field: answers are counted, not weighed",
        "field/answers.py",
        'clear.band_low.map(there) / clear.groupby("band_low").score.transform("size")',
        "clear.score * 0 + 1",
        "test_review.py::test_densities_are_corrected_for_the_drawing",
    ),
    Fault(
        "field: a threshold counts clips, whatever they stand for",
        "field/answers.py",
        "threshold_for(score, right, precision, w)",
        "threshold_for(score, right, precision)",
        "test_review.py::test_a_threshold_weighs_what_clips_stand_for",
    ),
    Fault(
        "field: what nobody reviewed is a negative",
        "field/answers.py",
        "begin = -1.0",
        "begin = 1e9",
        "test_review.py::test_only_what_was_heard_becomes_a_label",
    ),
    Fault(
        "field: a label can end the script it stands in",
        "field/review.py",
        r'for c in "<>&\u2028\u2029":',
        'for c in "":',
        "test_review.py::test_what_cannot_be_read_is_named_and_the_rest_is_there",
    ),
    Fault(
        "field: a clip is of the first channel",
        "field/review.py",
        "always_2d=True)[:, row.channel - 1]",
        "always_2d=True)[:, 0]",
        "test_review.py::test_a_file_is_read_alike_from_anywhere_and_from_its_beginning",
    ),
    Fault(
        "field: exported clips of one recording are groups of their own",
        "field/answers.py",
        'group or f"{Path(path).stem}-{digest}"',
        '""',
        "test_review.py::test_exported_clips_are_recordings_with_their_source_as_group",
    ),
    # ---- field
    Fault(
        "field: stretches do not reach into the next one",
        "field/windows.py",
        "x[at : at + size + length]",
        "x[at : at + size]",
        "test_tag.py::test_windows_meet_at_the_seams",
    ),
    Fault(
        "field: the last stretch does not reach back",
        "field/windows.py",
        "start = min(begin, max(first, (n - size) // hop * hop))",
        "start = begin",
        "test_tag.py::test_the_last_stretch_reaches_back",
    ),
    Fault(
        "field: a channel is its neighbour",
        "sound/audio.py",
        "block[:, number - 1]",
        "block[:, number % stream.channels]",
        "test_tag.py::test_a_channel_is_asked_for_by_its_number",
    ),
    Fault(
        "field: gaps are bridged that are too long",
        "field/detections.py",
        "start_s <= event[1] + self.cfg.gap_s + 1e-6",
        "start_s <= event[1] + self.cfg.gap_s + 1",
        "test_tag.py::test_events_are_those_by_hand_in_whatever_portions",
    ),
    Fault(
        "field: a journal is believed though its file has changed",
        "field/tag.py",
        'if _stamp(e["path"]).items() <= e.items()',
        "if e",
        "test_tag.py::test_a_file_that_has_changed_is_tagged_again",
    ),
    Fault(
        "field: a journal that broke off is not cut",
        "field/tag.py",
        "if end < len(whole):",
        "if False:",
        "test_tag.py::test_a_night_that_is_killed_twice_is_the_night_undisturbed",
    ),
    Fault(
        "field: digital silence is identified",
        "field/windows.py",
        "return share > HEARD_SHARE, trimmed",
        "return share >= 0, trimmed",
        "test_inference.py::test_nothing_is_identified_where_there_is_no_sound",
    ),
    Fault(
        "field: windows begin a frame late",
        "field/windows.py",
        "begin = sound[:, 0] * frame_s",
        "begin = (sound[:, 0] + 1) * frame_s",
        "test_inference.py::test_windows_have_their_times",
    ),
    Fault(
        "field: windows end after the recording",
        "field/windows.py",
        "frames[:, 0] + size) * frame_s, duration_s)",
        "frames[:, 0] + size) * frame_s, np.inf)",
        "test_inference.py::test_windows_have_their_times",
    ),
    Fault(
        "field: windows do not overlap",
        "learning/generator.py",
        "max(length // 2, 1)",
        "max(length, 1)",
        "test_inference.py::test_windows_have_their_times",
    ),
    Fault(
        "field: the end of a recording is not heard",
        "learning/generator.py",
        "np.unique(np.append(np.arange(0, last + 1, max(length // 2, 1)), last))",
        "np.arange(0, last + 1, max(length // 2, 1))",
        "test_inference.py::test_windows_have_their_times",
    ),
    Fault(
        "field: named by the surest window",
        "field/inference.py",
        "else p).sum(axis=0)",
        "else p).max(axis=0)",
        "test_inference.py::test_a_recording_is_named_by_the_mean_of_its_windows",
    ),
    Fault(
        "field: the network is asked where a listener lies beside it",
        "field/inference.py",
        'return beside if (beside / "model.json").exists() else Path(run)',
        "return Path(run)",
        "test_listeners.py::test_a_run_is_asked_by_the_listener_beside_its_network",
    ),
    Fault(
        "field: a listener's windows averaged like a network's",
        "field/inference.py",
        'identifier.kind != "spectrogram"',
        "False",
        "test_listeners.py::test_a_run_is_asked_by_the_listener_beside_its_network",
    ),
    Fault(
        "stores: settings rounded like results",
        "stores/store.py",
        'write_json(folder / "config.json", facts, decimals=None)',
        'write_json(folder / "config.json", facts)',
        "test_stores.py::test_a_store_keeps_every_digit_of_its_settings_and_one_that_lost_some_is_mended",
    ),
    # ---- report
    Fault(
        "report: tags are not escaped",
        "data/escaping.py",
        r"\[\]()<>#+!|~^$@&])",
        r"\[\]()#+!|~^$@&])",
        "test_escaping.py::test_a_table_keeps_its_columns_and_no_tag_or_script_comes_through",
    ),
    Fault(
        "report: anything is linked",
        "data/escaping.py",
        r're.match(r"(?:https?://|mailto:)[^\s/]\S*$", url, re.I)',
        r're.match(r".+$", url)',
        "test_escaping.py::test_only_addresses_of_web_and_mail_are_linked",
    ),
    Fault(
        "report: two species on one page",
        "report/markdown.py",
        "if not slug or slug in taken or slug in",
        "if not slug or slug in",
        "test_report.py::test_only_addresses_of_the_web_are_linked",
    ),
    Fault(
        "report: paths of this machine",
        "report/results.py",
        "return [scrub(v, names) for v in value]",
        "return value",
        "test_report.py::test_no_path_of_a_machine_is_quoted",
    ),
    # ---- cli
    Fault(
        "cli: a mistake is no failure",
        "cli.py",
        'say(f"avianspec: {told(e)}")\n            return 1',
        'say(f"avianspec: {told(e)}")\n            return 0',
        "test_cli.py::test_mistakes_are_answered_in_one_line",
    ),
    Fault(
        "cli: places are not looked at",
        "cli.py",
        "            check_places(args)\n",
        "",
        "test_cli.py::test_what_cannot_come_to_an_end_is_refused_before_it_begins",
    ),
    Fault(
        "cli: a broken file is no failure",
        "cli.py",
        "return int(len(found.quarantine) > 0)",
        "return 0",
        "test_checkup.py::test_damaged_silent_and_unusable_files_are_set_aside",
    ),
    # ---- where in time and frequency
    Fault(
        "events: half of the detection's length instead of the mark's",
        "scoring/events.py",
        "offset_share * (truth[:, 1] - truth[:, 0]))",
        "offset_share * (found[:, 1] - found[:, 0]).max())",
        "test_events.py::test_an_end_may_be_off_by_the_collar_or_half_of_the_mark",
    ),
    Fault(
        "events: a mark is hit by every detection near it",
        "scoring/events.py",
        'return maximum_bipartite_matching(csr_array(hits), perm_type="column")',
        "return np.where(hits.any(axis=1), hits.argmax(axis=1), -1)",
        "test_events.py::test_labels_and_recordings_do_not_mix_and_pairs_are_one_to_one",
    ),
    Fault(
        "regions: a region that goes on in the next block is forgotten",
        "sound/regions.py",
        "limits = np.float32(self.cfg.threshold), self._gap, self._least",
        "self._state[2], limits = 0, (np.float32(self.cfg.threshold), self._gap, self._least)",
        "test_regions.py::test_blocks_make_no_difference_to_the_last_bit",
    ),
    Fault(
        "framewise: a block is asked without its neighbours",
        "learning/framewise.py",
        "first, end = max(0, start - MARGIN), min(start + block, len(x))",
        "first, end = start, min(start + block, len(x))",
        "test_framewise.py::test_blocks_make_no_difference_and_arrays_bring_it_back",
    ),
]


def copy_project(folder: Path) -> None:
    "All that tests need, in a folder that may be spoilt."
    skip = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
    for name in COPIED:
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(
            ROOT / name, folder / name, **(dict(ignore=skip) if (ROOT / name).is_dir() else {})
        )


def preload() -> None:
    "What most tests need of other packages, once: every test runs in a fork of this process. Nothing of the project."
    os.environ |= dict(MPLBACKEND="agg", TF_CPP_MIN_LOG_LEVEL="3")
    for name in ("hypothesis", "librosa", "matplotlib.pyplot", "pandas", "pytest", "seaborn", "sklearn.ensemble"):
        import_module(name)
    for name in (
        "librosa.feature",
        "scipy.signal",
        "sklearn.naive_bayes",
        "sklearn.preprocessing",
        "soundfile",
        "soxr",
    ):
        import_module(name)


def in_fork(project: Path, test: str) -> None:
    "Run a test in the copied project, in this process, which ends with pytest's exit status."
    import pytest
    from hypothesis import Phase, settings

    settings.register_profile("no shrinking", phases=(Phase.explicit, Phase.generate), database=None)
    settings.load_profile("no shrinking")  # that a test fails is enough to know
    os.chdir(project)
    os.environ |= dict(PYTHONPATH=str(project), AVIANSPEC_CACHE=str(project / "cache"), TMPDIR=str(project / "tmp"))
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"  # old bytecode would hide a fault
    sys.dont_write_bytecode, tempfile.tempdir = True, str(project / "tmp")
    sys.path[:] = [str(project), *(p for p in sys.path if Path(p).resolve() != ROOT / "tests")]
    with open(project / "said.txt", "w") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    os._exit(int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", f"tests/{test}"])))


def run_test(project: Path, test: str) -> tuple[str, float]:
    "passed, failed, timed out, skipped, or nothing was run; seconds."
    process, began = get_context("fork").Process(target=in_fork, args=(project, test)), time.monotonic()
    process.start()
    process.join(LIMIT_S)
    if process.is_alive():
        process.kill()
        return "timed out", time.monotonic() - began
    said = {0: "passed", 1: "failed"}.get(process.exitcode, "nothing was run")
    if said == "passed" and not re.search(r"\d+ passed", (project / "said.txt").read_text(encoding="utf-8")):
        said = "skipped"
    return said, time.monotonic() - began


def verdict(project: Path, fault: Fault, sound: dict[str, str]) -> tuple[str, float]:
    "caught, missed or error, with what is to be known of it; seconds."
    file = project / fault.place
    text = file.read_text(encoding="utf-8")
    if (n := text.count(fault.old)) != 1:
        return f"error: its text is there {n} times", 0.0
    if fault.test not in sound:
        sound[fault.test] = run_test(project, fault.test)[0]
    if sound[fault.test] != "passed":
        return f"error: without a fault, {fault.test} {sound[fault.test]}", 0.0
    try:
        file.write_text(text.replace(fault.old, fault.new), encoding="utf-8")
        said, seconds = run_test(project, fault.test)
    finally:
        file.write_text(text, encoding="utf-8")
    return {"passed": "missed", "failed": "caught", "timed out": "caught: timed out"}.get(
        said, f"error: {said}"
    ), seconds


def main(argv: list[str] | None = None) -> int:
    "Exit status: 0 where enough of the faults were caught."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="beginnings of names; none: all faults")
    parser.add_argument("--list", action="store_true", help="only list them")
    args = parser.parse_args(argv)
    chosen = [f for f in FAULTS if not args.names or f.name.startswith(tuple(args.names))]
    if args.list:
        print(*(f"{f.name:<58} {f.place:<36} {f.test}" for f in chosen), sep="\n")
        return 0
    found, sound = [], {}
    preload()
    with tempfile.TemporaryDirectory(prefix="mutations-") as place:
        project = Path(place)
        (project / "tmp").mkdir()
        copy_project(project)
        for k, fault in enumerate(chosen, start=1):
            said, seconds = verdict(project, fault, sound)
            found.append(said.split(":")[0])
            print(f"[{k:3}/{len(chosen)}] {said:<8} {seconds:4.0f} s  {fault.name}  ({fault.test})", flush=True)
    counts = {said: found.count(said) for said in ("caught", "missed", "error")}
    share = counts["caught"] / len(chosen) if chosen else 0.0
    print(", ".join(f"{n} {said}" for said, n in counts.items()), f"of {len(chosen)}: {100 * share:.1f} % caught")
    return int(share < NEEDED)


if __name__ == "__main__":
    sys.exit(main())
