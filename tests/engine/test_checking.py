"""Known answers of engines that were just built: at the sizes they serve, and with fewer kernels after a failure."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from s2c_deploy.arrays import FloatArray
from s2c_deploy.errors import DependencyError, EngineError
from s2c_deploy.formats.bundle import Bundle, exact_graphs, load_arrays, open_bundle
from s2c_deploy.formats.manifest import KNOWN_ANSWERS
from s2c_deploy.runtime import Runner, open_runner
from s2c_deploy.runtime.profiles import Profile
from s2c_deploy.tensorrt import build as building
from s2c_deploy.tensorrt import check as checking
from s2c_deploy.tensorrt.build import build_bundle
from s2c_deploy.tensorrt.check import Check, answer_sizes, answered_sizes, check_runner, with_answered
from s2c_deploy.tensorrt.library import load_library
from s2c_deploy.tensorrt.store import EngineStore
from s2c_deploy.tensorrt.trust import Trust

SMALL = Profile.parse("64x64,128x64,192x128")


@pytest.fixture
def bundle(bundle_path: Path, tmp_path: Path) -> Bundle:
    shutil.copytree(bundle_path, tmp_path / "conv-tiny", copy_function=os.link)
    return open_bundle(tmp_path / "conv-tiny")


class Wrong(Runner):
    """A runner that is wrong by one step in one value of pictures of one size, or of one batch."""

    def __init__(self, runner: Runner, *, rows: int = 0, batch: int = 0) -> None:
        self.backend, self.provider, self.precision = runner.backend, runner.provider, runner.precision
        self.inputs, self.outputs = runner.inputs, runner.outputs
        self._runner, self._rows, self._batch = runner, rows, batch

    def _run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        results = self._runner(inputs)
        for array in results.values():
            if array.shape[2] == self._rows or len(array) == self._batch:
                array[0, 1, 2, 3] += 1
        return results


def test_an_engine_that_is_wrong_at_a_large_size_only(bundle: Bundle) -> None:
    profile = Profile.parse("64x64,192x128,256x256")
    with open_runner(bundle.graph("h_s"), backend="torch") as good:
        check = check_runner(bundle, "h_s", good, profiles=[profile], answers={})
        assert check == Check(sizes=("128x128", "192x128", "64x64", "256x256"), failure=None)
        check = check_runner(bundle, "h_s", Wrong(good, rows=16), profiles=[profile], answers={})
    assert check.sizes[-1] == "256x256"
    assert check.failure is not None
    assert check.failure.startswith("h_s@256x256: hyper at (0, 1, 2, 3): expected ")


def test_an_engine_is_asked_in_the_batches_that_it_serves(bundle: Bundle) -> None:
    profiles = [SMALL, Profile.parse("128x64@3")]
    with open_runner(bundle.graph("context_1_anchor"), backend="torch") as good:
        check = check_runner(bundle, "context_1_anchor", good, profiles=profiles, answers={})
        assert check == Check(sizes=("128x128", "192x128", "64x64", "128x64", "128x64@3"), failure=None)
        check = check_runner(bundle, "context_1_anchor", Wrong(good, batch=3), profiles=profiles, answers={})
    assert check.failure is not None
    assert check.failure.startswith("context_1_anchor@128x64@3: features at (0, 1, 2, 3): expected ")


def test_answers_made_elsewhere_stand_in_for_a_reference(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = answer_sizes(bundle, [(256, 256)])
    assert {name.partition("@")[0] for name in answers} == set(exact_graphs(bundle.config))
    assert all(np.array_equal(array, np.rint(array)) for array in answers.values())

    def nothing(name: str) -> str:
        raise DependencyError("no engine", extra="cpu")

    monkeypatch.setattr(checking, "choose_backend", nothing)
    profile = Profile.parse("64x64,192x128,256x256")
    with open_runner(bundle.graph("context_1_nonanchor"), backend="torch") as runner:
        for given, sizes in ((answers, ("128x128", "192x128", "256x256")), ({}, ("128x128", "192x128"))):
            check = check_runner(bundle, "context_1_nonanchor", runner, profiles=[profile], answers=given)
            assert check == Check(sizes=sizes, failure=None)
        answers["context_1_nonanchor@256x256/out/indexes"][0, 3, 2, 1] += 1
        check = check_runner(bundle, "context_1_nonanchor", runner, profiles=[profile], answers=answers)
    assert "context_1_nonanchor@256x256: indexes at (0, 3, 2, 1)" in str(check.failure)


def test_float_graphs_are_held_against_the_bundles_picture(bundle: Bundle) -> None:
    with open_runner(bundle.graph("g_s"), backend="onnxruntime") as runner:
        check = check_runner(bundle, "g_s", runner, profiles=[SMALL], answers={})
    assert check == Check(sizes=("128x128", "192x128"), failure=None)


def test_a_profile_for_the_known_answers_is_added_where_it_is_missing(bundle: Bundle) -> None:
    answers = load_arrays(bundle.path / KNOWN_ANSWERS)
    assert answered_sizes(answers) == [(128, 128), (192, 128)]
    large = Profile.parse("1920x1088")
    assert with_answered([SMALL], answers) == [SMALL]
    assert with_answered([large, SMALL], answers) == [large, SMALL]
    assert with_answered([large], answers) == [large, Profile.parse("128x128,192x128,192x128")]
    assert with_answered([large], {}) == [large]


@pytest.mark.parametrize("failures", [0, 1, 2, 4])
def test_a_failing_engine_is_built_again_with_fewer_kernels(
    bundle: Bundle, tensorrt_rtx: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    """The builder is real; whether an engine gives its answers is decided here, as no GPU can."""
    seen = []

    def check(bundle: Bundle, identity: building.Identity, *, trust: Trust, **_: object) -> Check:
        store = EngineStore(bundle, trust=trust)
        loaded = store.load("h_s", target="tensorrt-rtx", precision="float32", sha256=identity.sha256)
        assert loaded.identity == identity, "it is asked as it was stored"
        seen.append(set(identity.flags))
        if len(seen) == 2 and failures == 2:
            raise EngineError("cudaStreamSynchronize: an illegal memory access")
        return Check(sizes=("192x128",), failure="h_s: hyper at …" if len(seen) <= failures else None)

    monkeypatch.setattr(building, "can_check", lambda identity, host: None)
    monkeypatch.setattr(building, "check_engine", check)
    library, trust = load_library("tensorrt-rtx"), Trust(tmp_path / "state")
    options = {"compute_capabilities": ["8.6"], "profiles": [SMALL], "trust": trust}
    build = build_bundle(bundle, library, graphs=["h_s"], **options)  # type: ignore[arg-type]
    if failures == 4:
        with pytest.raises(EngineError, match=r"builds no engine of h_s .*any: h_s: hyper.*; first_found: h_s: hyper"):
            list(build)
        assert not list(bundle.path.rglob("*.engine*"))
        assert not list(trust.hashes())
    else:
        (made,) = build
        assert made.checked == "192x128"
        assert list(trust.hashes()) == [made.identity.sha256], "those that failed are off the record"
    wanted = [{"TF32"}, {"NO_TF32"}, {"FEW_SOURCES"}, {"FIRST_FOUND"}][: min(failures + 1, 4)]
    assert [flags - {"STRONGLY_TYPED", "REQUIRE_USER_ALLOCATION"} for flags in seen] == wanted


def test_a_float_graph_is_built_once(
    bundle: Bundle, tensorrt_rtx: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "can_check", lambda identity, host: None)
    monkeypatch.setattr(building, "check_engine", lambda *_, **__: Check(sizes=(), failure="g_s: x_hat at …"))
    library = load_library("tensorrt-rtx")
    with pytest.raises(EngineError, match=r"gives its known answers: any: g_s: x_hat at … \("):
        list(
            build_bundle(
                bundle,
                library,
                compute_capabilities=["8.6"],
                graphs=["g_s"],
                profiles=[SMALL],
                trust=Trust(tmp_path / "state"),
            )
        )
