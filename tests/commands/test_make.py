"""From images to a condensed set and its score, by the commands: the chain, its JSON, layers, folders, costs."""

import dataclasses
import json
import math
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import Dmis
from PIL import Image

from condense import methods
from condense.data import corrupt, sources
from condense.errors import UserError
from condense.evaluate import protocols
from condense.methods._generate import GeneratorOptions
from condense.pipeline.plan import Request, make_plan, resolve_options
from condense.pipeline.real_data import real_data
from condense.recipe import DataRecipe
from condense.run import locked
from condense.sets.hdf5 import read


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The protocol hard-quick with two epochs."""
    monkeypatch.setitem(protocols.PROTOCOLS, "hard-quick", dataclasses.replace(protocols.HARD_QUICK, epochs=2))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A user's folder: six pictures of each of two classes."""
    for value, name in ((40, "dark"), (200, "light")):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for index in range(6):
            Image.new("L", (8, 8), value + index).save(tmp_path / "pictures" / name / f"{index}.png")
    return tmp_path / "pictures"


def test_pictures_too_small_for_a_network_are_refused_before_training_or_need_none(dmis: Dmis, tmp_path: Path) -> None:
    for name in ("dark", "light"):
        (tmp_path / "small" / name).mkdir(parents=True)
        for index in range(6):
            Image.new("L", (5, 5), 200 * (name == "light") + index).save(tmp_path / "small" / name / f"{index}.png")
    quick = ("condense", "--data", "small", "--quick", "--ipc", "1")
    refused = dmis(*quick, "--method", "dmis", "--out", "d.h5")
    assert refused.code == 2 and "set draw.features=pixels" in refused.err and not (tmp_path / "runs").exists()
    refining = ("--set", "draw.features=pixels", "--set", "refine.iterations=1")
    refused = dmis(*quick, "--method", "dmis", "--out", "d.h5", *refining)
    assert refused.code == 2 and "convnet3 needs images of at least 8x8" in refused.err
    assert dmis(*quick, "--method", "random", "--out", "r.h5").code == 0


def test_chain_of_commands(dmis: Dmis, made: Path, trained: Path, quick: None) -> None:
    condensed = read(made)
    assert (condensed.ipc, condensed.num_classes, condensed.images.shape) == (2, 10, (20, 8, 8, 1))
    assert json.loads(dmis("validate", made, "--json").out)["valid"] is True
    told = json.loads(dmis("inspect", made, "--json", "--grid", "grid.png").out)
    assert told["provenance"]["recipe"]["data"]["noise"] == "sym:0.4"
    assert told["provenance"]["notes"]["generator"]["steps"] == 20
    assert Path("grid.png").is_file()
    assert dmis("export", made, "pictures").code == 0
    assert len(list(Path("pictures").rglob("*.png"))) == 20
    told = json.loads(dmis("evaluate", made, "--quick", "--repeats", 2, "--json").out)
    keys = {"mean", "std", "ci95", "accuracies", "protocol", "network", "seconds", "uses_true_labels", "test_data"}
    assert keys < set(told)
    assert told["protocol"]["name"] == "hard-quick" and len(told["accuracies"]) == 2
    assert told["mean"] == pytest.approx(sum(told["accuracies"]) / 2)


def test_condense_answers_with_the_set_it_wrote(dmis: Dmis, trained: Path, drawn: tuple[str, ...]) -> None:
    answer = dmis("condense", "--ipc", 1, "--generator", trained, *drawn, "--json")
    told = json.loads(answer.out)
    assert set(told) == {"path", "ipc", "classes", "sha256", "cost"}
    assert set(told["cost"]) == {"seconds", "network_evaluations", "peak_memory_bytes", "images_seen"}
    assert (told["path"], told["ipc"], told["classes"]) == ("digits-dmis-ipc1.h5", 1, 10)
    assert read(Path(told["path"])).sha256() == told["sha256"]
    assert listing(Path("runs")) == [
        "digits-dmis-ipc1-seed0",
        "digits-dmis-ipc1-seed0/.lock",
        "digits-dmis-ipc1-seed0/recipe.json",
    ]
    before = Path(told["path"]).read_bytes()
    again = dmis("condense", "--ipc", 1, "--seed", 1, "--generator", trained, *drawn)
    assert again.code == 2 and "--force" in again.err and Path(told["path"]).read_bytes() == before
    forced = dmis("condense", "--ipc", 1, "--seed", 1, "--generator", trained, *drawn, "--force", "--json")
    assert forced.code == 0 and json.loads(forced.out)["sha256"] != told["sha256"]


def test_the_recipe_of_a_set_makes_it_again(dmis: Dmis, made: Path) -> None:
    Path("recipe.json").write_text(json.dumps(read(made).provenance.recipe))
    assert dmis("condense", "-c", "recipe.json", "--out", "again.h5").code == 0
    assert read(Path("again.h5")).sha256() == read(made).sha256()


SECOND = ("--set", "second_stage={network: {kind: conditional, channels: 8, multipliers: [1]}, train: {steps: 3}}")


@pytest.mark.parametrize(
    "changed",
    [
        (),
        ("--method", "vanilla"),
        ("--set", "train.form=mixture"),
        ("--noise", "partial:0.5", "--set", "train.cold_start=0.4"),
        ("--noise", "unlabeled:0.5", "--set", "train.cold_start=0.4"),
        (
            *("--set", "network.kind=conditional", "--set", "train.top_k=2", "--set", "train.form=mixture"),
            *("--set", "train.eliminate=null"),
        ),
        (
            *("--set", "network.kind=conditional", "--set", "network.dropout=0.2", "--set", "train.form=mixture"),
            *("--set", "train.eliminate=null"),
        ),
        ("--set", "draw.guidance=1"),
        ("--set", "draw.prototype_sigma=2"),
        SECOND,
        ("--method", "vanilla", *SECOND, "--set", "draw.prototype_sigma=2"),
        ("--method", "tdsm", "--set", "train.helper.steps=3", *SECOND),
        ("--method", "tdsm", "--set", "train.helper.steps=3"),
        ("--method", "tdsm", "--set", "train.helper.steps=3", "--set", "drawn=as-published"),
        ("--method", "cad", "--set", "train.coherence={folds: 2, epochs: 1}", *SECOND),
    ],
)
def test_dry_run_estimates_the_cost_and_writes_nothing(
    changed: tuple[str, ...],
    dmis: Dmis,
    tiny: tuple[str, ...],
    drawn: tuple[str, ...],
    tmp_path: Path,
    few_digits: Path,
) -> None:
    shared = ("condense", "--data", few_digits, "--noise", "sym:0.4", *tiny, *drawn, "--set", "train.steps=5")
    arguments = (*shared, "--ipc", 1, *changed, "--json")
    foretold = json.loads(dmis(*arguments, "--dry-run").out)
    assert listing(tmp_path) == []
    done = json.loads(dmis(*arguments).out)
    assert foretold["network_evaluations"] == done["cost"]["network_evaluations"]
    assert foretold["recipe"] == read(Path(done["path"])).provenance.recipe
    assert foretold["image_shape"] == [8, 8, 1] and foretold["classes"] == 10


@pytest.mark.parametrize(
    "changed",
    [
        ("herding", "teacher.epochs=1"),
        ("rded", "teacher.epochs=1", "pool=25"),  # more than some classes have
        ("sre2l", "teacher.network=convnet3-bn", "teacher.epochs=1", "recover.iterations=2", "recover.joint=15"),
        ("dm", "iterations=2", "real_batch=20"),  # as many as some classes have
        ("dc", "iterations=1", "outer=2", "inner=2", "real_batch=4", "backbone=convnet3-bn"),
        ("dsa", "iterations=2", "outer=1", "inner=2", "real_batch=4"),
        ("mtt", "iterations=2", "experts=1", "student_steps=2", "start_epochs=1", "expert_gap=1", "student_batch=7"),
        ("tdsm", "train.steps=2", "train.helper.steps=2", "draw.sampler_steps=2", "draw.agree=false"),
        ("cad", "train.steps=2", "train.coherence.epochs=1", "draw.sampler_steps=2", "draw.agree=false"),
    ],
    ids=lambda changed: changed[0],
)
def test_dry_run_estimates_the_cost_of_every_kind_of_method(
    changed: tuple[str, ...], dmis: Dmis, few_digits: Path
) -> None:
    method, *settings = changed
    arguments = ["condense", "--data", few_digits, "--noise", "sym:0.4", "--method", method, "--ipc", 2, "--json"]
    arguments += [word for setting in settings for word in ("--set", setting)]
    foretold = json.loads(dmis(*arguments, "--dry-run").out)["network_evaluations"]
    assert foretold == json.loads(dmis(*arguments).out)["cost"]["network_evaluations"] > 0


@pytest.mark.usefixtures("measuring")
def test_dry_run_for_people_is_a_recipe(dmis: Dmis, tmp_path: Path) -> None:
    answer = dmis("train", "--dry-run", "--set", "train.steps=7")
    assert "steps: 7\n" in answer.out and "parameters" in answer.out
    assert listing(tmp_path) == []


def test_several_networks_and_their_data(dmis: Dmis, made: Path, quick: None) -> None:
    Path("recipe.yaml").write_text("evaluate: {protocol: hard-quick, repeats: 1}")
    answer = dmis("evaluate", made, "-c", "recipe.yaml", "--network", "convnet3", "--network", "convnet3-bn", "--json")
    told = json.loads(answer.out)
    assert [score["network"] for score in told["scores"]] == ["convnet3", "convnet3-bn"]
    assert [score["ci95"] for score in told["scores"]] == [None, None]
    table = dmis("evaluate", made, "-c", "recipe.yaml", "-q").out
    assert table.splitlines()[0].startswith("network") and "convnet3" in table


def test_evaluate_needs_fitting_test_images(dmis: Dmis, made: Path, folder: Path) -> None:
    other = dmis("evaluate", made, "--data", folder)
    assert other.code == 2 and "no test images" in other.err
    random = ("condense", "--data", folder, "--method", "random", "--ipc", 2)
    assert dmis(*random, "--out", "own.h5").code == 0
    unknown = dmis("evaluate", "own.h5")
    assert unknown.code == 2 and "--data" in unknown.err
    foreign = dmis("evaluate", "own.h5", "--data", "digits")
    assert foreign.code == 2 and "has 2 classes, the test data digits has 10" in foreign.err
    larger = dmis("evaluate", made, "--image-size", 16)
    assert larger.code == 2 and "8x8 with 1 channel, the test images of digits 16x16" in larger.err
    assert foreign.out == larger.out == ""


def test_a_set_is_scored_on_the_data_it_was_made_from(dmis: Dmis, folder: Path, quick: None) -> None:
    for split in ("train", "test"):
        shutil.copytree(folder, folder.parent / "own" / "digits" / split)
    made = dmis("condense", "--data", "own/digits", "--method", "random", "--ipc", 1, "--out", "a set.h5")
    assert made.code == 0 and made.out.endswith("Next: dmis evaluate 'a set.h5'\n")
    command = ("evaluate", "a set.h5", "--quick", "--network", "mlp", "--repeats", 1)
    assert dmis(*command).code == 0
    shutil.rmtree("own")
    refused = dmis(*command)
    assert refused.code == 2 and "/own/digits', which is not found here" in refused.err


def test_data_given_by_path_get_the_noise_that_the_set_was_made_from(dmis: Dmis) -> None:
    assert dmis("corrupt", "digits", "--noise", "sym:0.1", "--out", "own.npz").code == 0
    command = ("condense", "--data", "own.npz", "--noise", "sym:0.4", "--method", "random", "--ipc", 1)
    assert dmis(*command, "--out", "set.h5").code == 0
    assert real_data(read(Path("set.h5")), DataRecipe()).corruption.spec == "sym:0.4"


def test_impossible_requests_are_refused_before_anything_is_made(dmis: Dmis, folder: Path) -> None:
    before = listing(folder.parent)
    random = ("condense", "--data", folder, "--method", "random")
    for command, told in (
        ((*random, "--ipc", 7), "ipc is 7"),
        ((*random, "--ipc", 7, "--dry-run"), "ipc is 7"),
        ((*random, "--ipc", 1, "--out", "set.png"), "ends in .h5"),
        (("condense", "-c", "digits"), "dmis benchmark digits"),
        (("condense", "--data", "digits", "--set", "train.top_k=2", "--dry-run"), "saves nothing with an all-class"),
        (("condense", "--method", "nope"), "The methods are cad, ccs, chosen, datadam, dc"),
        (("init", "new/recipe.yaml", "--data", "nothere"), "'nothere'"),
        (("corrupt", "nothere", "--noise", "sym:0.3", "--out", "new/z.npz"), "'nothere'"),
        (("generate", "--generator", "nowhere", "--count", 1, "--out", "new/x.h5"), "nowhere"),
        (("inspect", folder, "--grid", "grid.gif"), "ends in .png"),
        (("inspect", folder, "--labels", ""), "The value after --labels is empty"),
    ):
        answer = dmis(*command)
        assert answer.code == 2 and told in answer.err, command
        assert listing(folder.parent) == before, command


def test_nothing_is_replaced_without_force(dmis: Dmis, made: Path, folder: Path) -> None:
    shutil.copy(made, "own.h5")
    for command in (("inspect", folder, "--grid", "own.png"), ("export", "own.h5", "own.h5", "--force", "-f", "npz")):
        Path("own.png").write_text("mine")
        assert dmis(*command).code == 2
        assert Path("own.png").read_text() == "mine" and read(Path("own.h5")).ipc == 2
    assert dmis("inspect", folder, "--grid", "own.png", "--force").code == 0
    assert Path("own.png").read_bytes().startswith(b"\x89PNG")


def test_evaluate_knows_what_may_be_set(dmis: Dmis, made: Path) -> None:
    refused = dmis("evaluate", made, "--set", "protocol=quick")
    assert refused.code == 2 and "--set protocol=… has no effect here" in refused.err
    fixed = dmis("evaluate", made, "--set", "evaluate.epochs=5")
    assert fixed.code == 2 and "the protocol fixes it" in fixed.err and "evaluate.repeats" in fixed.err


def test_damaged_sets_are_refused_by_every_command(dmis: Dmis, made: Path) -> None:
    content = made.read_bytes()
    with h5py.File(made) as file:
        chunk = file["images"].id.get_chunk_info(0)
    flipped = bytearray(content)
    flipped[chunk.byte_offset + chunk.size // 2] ^= 1  # among the pixels; other bytes may mean nothing
    Path("flipped.h5").write_bytes(flipped)
    Path("cut.h5").write_bytes(content[: len(content) // 2])
    Path("foreign.h5").write_bytes(b"something else")
    for name in ("flipped.h5", "cut.h5", "foreign.h5"):
        for arguments in (("validate", name), ("evaluate", name), ("export", name, "out")):
            answer = dmis(*arguments)
            assert answer.code == 2 and name in answer.err and answer.out == ""
    assert not Path("out").exists()


def test_folders_that_cannot_be_read(dmis: Dmis, folder: Path) -> None:
    (folder / "dark" / "0.png").write_bytes(b"no picture")
    answer = dmis("condense", "--data", folder, "--method", "random", "--ipc", 2)
    assert answer.code == 2 and "0.png" in answer.err
    Path("empty").mkdir()
    answer = dmis("train", "--data", "empty")
    assert answer.code == 2 and "no class folders" in answer.err
    assert listing(Path("empty")) == [] and not Path("runs").exists()


def test_a_generator_of_another_shape_or_other_classes_is_refused(dmis: Dmis, trained: Path, folder: Path) -> None:
    for data, said in ((("--image-size", 12), "8x8x1"), (("--data", folder), "classes")):
        for way in ((), ("--method", "random", "--clean-first", "dmis")):
            answer = dmis("condense", *data, *way, "--ipc", 1, "--generator", trained)
            assert answer.code == 2 and said in answer.err
    assert not list(Path().glob("*.h5"))


def test_labels_repaired_first(dmis: Dmis, trained: Path) -> None:
    arguments = ("condense", "--noise", "sym:0.4", "--method", "random", "--ipc", 5)
    truth = sources.load("digits").truth
    assert truth is not None
    assert dmis(*arguments, "--clean-first", "oracle").code == 0
    by_oracle = read(Path("digits-random-true-labels-ipc5.h5"))
    np.testing.assert_array_equal(truth.labels[by_oracle.source_index], by_oracle.labels)
    assert dmis(*arguments, "--clean-first", "dmis", "--generator", trained).code == 0
    told = read(Path("digits-random-relabelled-ipc5.h5")).provenance
    assert told.corruption == "sym:0.4, labels repaired by dmis"
    assert told.cost.images_seen == 20 * 16 and told.notes["labeller"]["objective"] == "dmis"
    assert told.recipe["labeller"]["generator"] == str(trained)


def test_a_labeller_is_trained_in_the_run_folder(dmis: Dmis, tiny: tuple[str, ...]) -> None:
    shared = ("condense", "--noise", "sym:0.4", "--method", "random", "--ipc", 1, "--clean-first", "dmis", *tiny)
    arguments = (*shared, "--run", "run", "--json")
    foretold = json.loads(dmis(*arguments, "--dry-run").out)["network_evaluations"]
    answer = dmis(*arguments, "--out", "a.h5")
    assert json.loads(answer.out)["cost"]["network_evaluations"] == foretold
    assert "run/labeller/generator.safetensors" in listing(Path())
    assert dmis(*arguments, "--out", "b.h5").code == 2
    assert dmis(*arguments, "--out", "b.h5", "--resume").code == 0
    assert read(Path("a.h5")).sha256() == read(Path("b.h5")).sha256()


def test_force_starts_every_stage_afresh(dmis: Dmis, trained: Path, drawn: tuple[str, ...]) -> None:
    few = ("iterations=1", "real_batch=2", "lr_img=0.1", "gradients.iterations=1", "gradients.real_batch=2")
    few += ("gradients.net_batch=2", "gradients.pool=1", "gradients.width=4")
    refined = [part for option in few for part in ("--set", f"refine.{option}")]
    run = (
        "condense",
        "--ipc",
        1,
        "--generator",
        trained,
        *drawn,
        *refined,
        "--run",
        "run",
        "--out",
        "set.h5",
        "--json",
    )
    first = json.loads(dmis(*run).out)
    assert Path("run/refine/gradients/checkpoint.safetensors").exists()
    again = dmis(*run, "--seed", 1, "--force")
    assert again.code == 0 and json.loads(again.out)["sha256"] != first["sha256"], again.err


def test_no_oracle_without_truth(dmis: Dmis, folder: Path) -> None:
    shared = ("condense", "--data", folder, "--method", "random", "--ipc", 1)
    answer = dmis(*shared, "--clean-first", "oracle")
    assert answer.code == 2 and "no clean labels" in answer.err
    answer = dmis(*shared, "--noise", "sym:0.4")
    assert answer.code == 2 and "no clean labels" in answer.err


def test_resume_wants_the_same_run_and_force_another(dmis: Dmis, tiny: tuple[str, ...]) -> None:
    train = ("train", *tiny, "--set", "train.steps=2", "--run", "run")
    assert dmis(*train, "--noise", "sym:0.4").code == 0
    other = dmis(*train, "--noise", "sym:0.2", "--resume")
    assert other.code == 2 and '"sym:0.4"' in other.err and '"sym:0.2"' in other.err
    assert "other options" in dmis(*train, "--noise", "sym:0.4", "--set", "train.steps=3", "--resume").err
    mirrored = dmis(*train, "--noise", "sym:0.4", "--set", "data.flip=true", "--resume")
    assert mirrored.code == 2 and "data.flip" in mirrored.err, "networks so far have not seen mirror images"
    Path("run/notes.txt").write_text("mine")
    assert dmis(*train, "--noise", "sym:0.2", "--force").code == 0
    assert Path("run/notes.txt").read_text() == "mine"
    Path("run/checkpoint.safetensors").unlink()
    answer = dmis(*train, "--noise", "sym:0.2", "--resume")
    assert answer.code == 2 and "--generator run" in answer.err


def test_corrupt_keeps_labels_for_later(dmis: Dmis) -> None:
    answer = dmis("corrupt", "digits", "--noise", "pair:0.3", "--seed", 3, "--out", "noisy.npz", "--json")
    told = json.loads(answer.out)
    source = sources.load("digits")
    assert source.truth is not None
    supervision, corruption = corrupt.apply("pair:0.3", source.truth, source.train, 3)
    stored = sources.load("noisy.npz")
    np.testing.assert_array_equal(stored.supervision.candidates, supervision.candidates)
    assert told["overall_rate"] == corruption.overall_rate and told["corruption"] == "pair:0.3"
    assert dmis("corrupt", "digits", "--noise", "sym:0.4", "--out", "noisy.npz").code == 2
    by_file, injected = (
        make_plan(Request(named={"data": data, "method": "random"})).train
        for data in ({"name": "noisy.npz"}, {"name": "digits", "noise": "pair:0.3", "noise_seed": 3})
    )
    assert by_file.corruption == injected.corruption
    np.testing.assert_array_equal(by_file.supervision.candidates, injected.supervision.candidates)


def test_init_writes_the_defaults(dmis: Dmis) -> None:
    for method in methods.names():
        assert dmis("init", f"{method}.yaml", "--method", method).code == 0
        written, plain = make_plan(Request(config=f"{method}.yaml")), make_plan(Request(named={"method": method}))
        assert written.recipe == plain.recipe and written.options == plain.options
    text = Path("dmis.yaml").read_text()
    assert "steps: 1200  # optimiser steps" in text
    assert dmis("init", "dmis.yaml").code == 2
    assert Path("dmis.yaml").read_text() == text
    assert dmis("init", "dmis.yaml", "--method", "random", "--force").code == 0
    assert "sampler_steps" not in Path("dmis.yaml").read_text()


def test_layers_from_weak_to_strong() -> None:
    vanilla = methods.load("vanilla")
    file = {"train": {"steps": 5, "batch_size": 7}, "network": {"channels": 16}}
    asked = {"method": "vanilla", "train": {"steps": 9}, "draw": {"sampler_steps": 4}}
    recipe, options, labeller = resolve_options(file, asked, vanilla, 8)
    told = options.model_dump()
    assert (told["train"]["steps"], told["train"]["batch_size"]) == (9, 7)
    assert (told["network"]["channels"], told["network"]["patch"]) == (16, 2)  # patch: the size's default
    assert (told["draw"]["sampler_steps"], told["draw"]["prototype_sigma"]) == (4, 0.25)  # asked for, the size's
    assert told["train"]["objective"] == "vanilla" and labeller is None
    assert recipe.options == options.model_dump(mode="json")
    assert resolve_options({}, {"options": {}}, vanilla, 28)[1].model_dump()["network"]["multipliers"] == (1, 2)


def test_the_defaults_know_how_many_images_there_are(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (240, 28, 28, 1), dtype=np.uint8)
    np.savez(tmp_path / "few.npz", train_images=images, train_labels=np.arange(240) % 10)
    few = {"data": {"name": str(tmp_path / "few.npz")}}
    for asked, steps in (((), math.ceil(100 * 240 / 64)), (("train.steps=999",), 999)):
        options = make_plan(Request(named=few, settings=asked)).options
        assert isinstance(options, GeneratorOptions) and options.second_stage is not None
        assert (options.train.steps, options.second_stage.train.steps) == (steps, 1000)


def test_quick_is_a_layer_between_the_defaults_and_the_options_given() -> None:
    dmis, random = methods.load("dmis"), methods.load("random")
    quick = dmis.Options.QUICK["train"]["steps"]
    assert resolve_options({}, {}, dmis, 8)[1].model_dump()["train"]["steps"] == 1200 > quick
    for asked, steps in (({}, quick), ({"train": {"steps": 7}}, 7)):
        for file in ({}, {"train": {"batch_size": 9}}):
            recipe, options, _ = resolve_options(file, {"quick": True, **asked}, dmis, 8)
            told = options.model_dump()
            assert recipe.quick and told["train"]["steps"] == steps and told["network"]["blocks"] == 1
            assert told["train"]["batch_size"] == (9 if file else 128)
    assert resolve_options({"train": {"steps": 5}}, {"quick": True}, dmis, 8)[1].model_dump()["train"]["steps"] == 5
    assert resolve_options({"quick": True}, {}, dmis, 8)[1].model_dump()["train"]["steps"] == quick
    _, _, labeller = resolve_options({}, {"quick": True, "method": "random", "clean_first": "dmis"}, random, 8)
    assert labeller is not None and labeller.train.steps == quick


@pytest.mark.parametrize("method", methods.names())
def test_quick_from_the_command_line(method: str, dmis: Dmis) -> None:
    told = json.loads(dmis("condense", "--method", method, "--noise", "sym:0.4", "--quick", "--dry-run", "--json").out)
    options = methods.load(method).Options
    assert told["recipe"]["quick"] is True
    assert (
        options.model_validate({k: told["recipe"][k] for k in options.model_fields})
        == make_plan(Request(named={"method": method, "quick": True})).options
    )


def test_one_recipe_file_serves_methods_without_generator() -> None:
    random = methods.load("random")
    file = {"method": "dmis", "train": {"steps": 5}}
    recipe, _, _ = resolve_options(file, {"method": "random"}, random, 8)
    assert recipe.method == "random" and recipe.options == {}
    with pytest.raises(UserError, match="unknown key 'train'"):
        resolve_options({}, {"method": "random", "train": {"steps": 5}}, random, 8)
    _, _, labeller = resolve_options(file, {"method": "random", "clean_first": "dmis"}, random, 8)
    assert labeller is not None and labeller.train.steps == 5 and labeller.network.blocks == 1


@pytest.mark.parametrize("method", ["dmis", "vanilla", "tdsm", "cad"])
def test_a_second_stage_and_prototypes_are_the_default_of_every_generator(method: str) -> None:
    module, asked = methods.load(method), {"method": method}
    _, options, _ = resolve_options({}, asked, module, 28)
    _, ours, _ = resolve_options({}, {}, methods.load("dmis"), 28)
    assert options.second_stage is not None and options.draw.prototype_sigma == 1.0
    assert (options.second_stage, options.draw) == (ours.second_stage, ours.draw)
    for file, named in (({"drawn": "as-published"}, {}), ({}, {"drawn": "as-published"})):
        recipe, plain, _ = resolve_options(file, {**asked, **named, "quick": bool(file)}, module, 28)
        assert plain.second_stage is None and recipe.options["drawn"] == "as-published"
        assert (plain.draw.pool, plain.draw.agree, plain.draw.choose) == (1, False, "none")
        assert plain.draw.prototype_sigma is None
    _, back, _ = resolve_options({"drawn": "as-published"}, {**asked, "drawn": "alike"}, module, 28)
    assert back == options
    _, quick, _ = resolve_options({}, {**asked, "quick": True}, module, 28)
    assert quick.second_stage is None and quick.draw.prototype_sigma is None
    assert method == "cad" or quick.train.helper.steps == 40
    stage = {"network": {"kind": "conditional"}, "train": {"steps": 7}}
    _, wished, _ = resolve_options({}, {**asked, "second_stage": stage}, module, 28)
    assert wished.second_stage.train.steps == 7
    _, _, labeller = resolve_options({}, {**asked, "clean_first": "dmis"}, module, 28)
    assert labeller.second_stage is None and labeller.draw.prototype_sigma is None


def test_what_cannot_be_written_is_refused_before_the_work(tmp_path: Path, dmis: Dmis, monkeypatch) -> None:
    """`--out` a folder, names too long, seeds of 2^64 failed after the work."""
    monkeypatch.setattr("condense.commands.condense.make_set", lambda *_: pytest.fail("work was begun"))
    (tmp_path / "folder.h5").mkdir()
    command = ("condense", "--method", "random", "--ipc", 1)
    for arguments, told in (
        (("--out", "folder.h5"), "is a folder; give the name of a file to write"),
        (("--out", "folder.h5", "--force"), "is a folder; give the name of a file to write"),
        (("--out", "n" * 253 + ".h5"), "File name too long"),
        (("--seed", 2**63), "--seed"),
        (("--seed", -1), "--seed"),
        (("--set", f"seed={2**64}"), "too many digits"),
        (("--run", "n" * 256), "File name too long"),
    ):
        answer = dmis(*command, *arguments)
        assert answer.code == 2 and told in answer.err, answer.err
    assert not (tmp_path / "runs").exists()


def test_two_seeds_share_no_run_folder(tmp_path: Path, dmis: Dmis) -> None:
    """Two `condense` with seeds 0 and 1 shared runs/digits-dmis-ipc1."""
    for seed in (0, 1):
        assert dmis("condense", "--method", "random", "--ipc", 1, "--seed", seed, "--out", f"{seed}.h5").code == 0
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == [
        "digits-random-ipc1-seed0",
        "digits-random-ipc1-seed1",
    ]


def test_a_run_folder_at_work_is_left_alone(tmp_path: Path, dmis: Dmis) -> None:
    """No lock on run folders."""
    with locked(tmp_path / "run", "run"):
        for more in ((), ("--force",), ("--resume",)):
            answer = dmis("condense", "--method", "random", "--ipc", 1, "--out", "a.h5", "--run", "run", *more)
            assert answer.code == 2 and "Another run is in progress in run; wait for it" in answer.err
    assert dmis("condense", "--method", "random", "--ipc", 1, "--out", "a.h5", "--run", "run").code == 0


@pytest.mark.parametrize("content", ['{"data": null}', "[]", "null", '{"data": [1]}', "{", "[" * 100_000])
def test_a_damaged_recipe_of_a_run_is_a_sentence(tmp_path: Path, dmis: Dmis, trained: Path, content: str) -> None:
    """A recipe.json with `data: null`."""
    shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "run" / "recipe.json").write_text(content)
    answer = dmis("train", "--noise", "sym:0.4", "--run", "run", "--resume")
    assert answer.code == 2 and "so the run cannot be resumed; start over with --force" in answer.err, answer.err
