"""What stands between an engine file and the library that would run it: real TensorRT-RTX engines, attacked."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import s2c_deploy
from s2c_deploy.errors import (
    EngineError,
    ForeignEngineError,
    StaleEngineError,
    TamperedEngineError,
    TruncatedEngineError,
)
from s2c_deploy.formats.bundle import open_bundle
from s2c_deploy.host import Host, this_host
from s2c_deploy.runtime.profiles import Profile
from s2c_deploy.tensorrt import EngineStore, VerifiedEngine, deserialize, load_library
from s2c_deploy.tensorrt.build import build_bundle
from s2c_deploy.tensorrt.identity import Identity, read_identity
from s2c_deploy.tensorrt.library import Library
from s2c_deploy.tensorrt.trust import Trust, state_folder

PROFILE = Profile(min=(64, 64), opt=(64, 64), max=(128, 64))
GPU = "NVIDIA GeForce RTX 3090"


class ReachedError(Exception):
    """Engine bytes were about to be deserialized."""


class Runtime:
    """Where the library's runtime would be: nothing may get here that was not proven."""

    def deserialize_cuda_engine(self, data: bytes) -> Any:
        raise ReachedError(hashlib.sha256(data).hexdigest())


@pytest.fixture(scope="module")
def library(tensorrt_rtx: ModuleType) -> Library:
    return load_library("tensorrt-rtx")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, bundle_path: Path, library: Library) -> Path:
    """A folder with a bundle, engines of h_a for 8.6 and 8.9 and of a context, and the user's records in ``state``."""
    folder = tmp_path_factory.mktemp("built")
    shutil.copytree(bundle_path, folder / "bundle")
    bundle, trust = open_bundle(folder / "bundle"), Trust(folder / "state")
    for graph, capabilities in (("h_a", ["8.6", "8.9"]), ("context_0_nonanchor", ["8.6"])):
        list(
            build_bundle(
                bundle, library, compute_capabilities=capabilities, profiles=[PROFILE], graphs=[graph], trust=trust
            )
        )
    return folder


@pytest.fixture
def folder(built: Path, tmp_path: Path) -> Path:
    """A copy to damage; engine bytes are large, so those that stay are links to the same bytes."""
    shutil.copytree(built, tmp_path / "copy", copy_function=os.link)
    return tmp_path / "copy"


def rewritten(path: Path, data: bytes) -> None:
    """Replaces a file, not the bytes that other tests share."""
    path.unlink()
    path.write_bytes(data)


def store_of(folder: Path, library: Library, host: Host | None = None) -> EngineStore:
    host = host if host is not None else Host(os=here(), gpu=GPU, compute_capability="8.6", driver="13.0")
    versions = {library.target: library.version}
    return EngineStore(open_bundle(folder / "bundle"), versions=versions, host=host, trust=Trust(folder / "state"))


def here() -> str:
    return this_host().os


def engine(folder: Path, graph: str = "h_a", capability: str = "86") -> Path:
    (path,) = (folder / "bundle" / "tensorrt-rtx" / graph).glob(f"sm{capability}-*.engine")
    return path


def sidecar(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def use(store: EngineStore, graph: str = "h_a") -> None:
    """What a runner does."""
    precision = "float32" if graph.startswith("context") else "float16"
    found = store.load(graph, target="tensorrt-rtx", precision=precision)
    deserialize(load_library("tensorrt-rtx"), Runtime(), found)


# what is right


def test_an_engine_as_built_reaches_the_library_with_its_very_bytes(folder: Path, library: Library) -> None:
    store = store_of(folder, library)
    with pytest.raises(ReachedError, match=hashlib.sha256(engine(folder).read_bytes()).hexdigest()):
        use(store)
    with pytest.raises(ReachedError):
        use(store, "context_0_nonanchor")
    assert [entry.state for entry in store.entries()] == ["ok", "ok", "foreign"]  # the last is for 8.9


def test_the_real_library_opens_it_or_says_why(folder: Path, library: Library) -> None:
    """Past the checks, what a machine without a driver answers is an EngineError, too."""
    found = store_of(folder, library).load("h_a", target="tensorrt-rtx", precision="float16")
    runtime = library.module.Runtime(library.module.Logger(library.module.Logger.INTERNAL_ERROR))
    if this_host().gpu is None:
        with pytest.raises(EngineError, match="cannot load its engine of h_a"):
            deserialize(library, runtime, found)
    else:
        assert deserialize(library, runtime, found) is not None


def test_engines_are_plain_bytes_with_a_full_identity(folder: Path, library: Library) -> None:
    bundle = open_bundle(folder / "bundle")
    path = engine(folder)
    data = path.read_bytes()
    assert data[:4] == b"vtrt", "the library's own magic comes first"
    # The second profile is that of the known answers, which the first is too small for.
    profiles = "64x64_64x64_128x64+128x128_192x128_192x128"
    assert path.name == f"sm86-{here().replace('-', '_')}-rtx{library.version}-float16-{profiles}.engine"
    found = json.loads(sidecar(path).read_text())
    assert found["fingerprint"] == bundle.fingerprint.hex()
    assert found["graph_sha256"] == hashlib.sha256((folder / "bundle" / "h_a.float16.onnx").read_bytes()).hexdigest()
    assert (found["sha256"], found["size"]) == (hashlib.sha256(data).hexdigest(), len(data))
    assert (found["compute_capability"], found["library_version"]) == ("8.6", library.version)
    assert (found["gpu"], found["driver"]) == (None, None)
    assert "STRONGLY_TYPED" in found["flags"]
    assert "h_a: " in path.with_name(path.name + ".log").read_text().splitlines()[0]
    assert not [p for p in path.parent.iterdir() if ".part" in p.name]


def test_nothing_else_in_the_package_deserializes() -> None:
    sources = Path(s2c_deploy.__file__).parent.rglob("*.py")
    calls = [p.name for p in sources if re.search(r"deserialize_cuda_engine\(", p.read_text())]
    assert calls == ["store.py"]


# attacks: (what is done to the folder, the error)


def cut(folder: Path) -> None:
    rewritten(engine(folder), engine(folder).read_bytes()[:-1])


def emptied(folder: Path) -> None:
    rewritten(engine(folder), b"")


def one_bit(folder: Path) -> None:
    data = bytearray(engine(folder).read_bytes())
    data[len(data) // 2] ^= 1
    rewritten(engine(folder), bytes(data))


def appended(folder: Path) -> None:
    rewritten(engine(folder), engine(folder).read_bytes() + b"\0")


def foreign_with_a_forged_sidecar(folder: Path) -> None:
    """Somebody else's program, with everything beside it as it should be."""
    path = engine(folder)
    data = b"vtrt" + os.urandom(1000)
    rewritten(path, data)
    claims = json.loads(sidecar(path).read_text()) | {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    rewritten(sidecar(path), json.dumps(claims).encode())


def sidecar_of_the_good_engine_before_foreign_bytes(folder: Path) -> None:
    path = engine(folder)
    rewritten(path, os.urandom(path.stat().st_size))


def no_sidecar(folder: Path) -> None:
    sidecar(engine(folder)).unlink()


def no_record(folder: Path) -> None:
    shutil.rmtree(folder / "state")


def half_a_sidecar(folder: Path) -> None:
    rewritten(sidecar(engine(folder)), sidecar(engine(folder)).read_bytes()[:100])


def linked_sidecar(folder: Path) -> None:
    sidecar(engine(folder)).rename(folder / "elsewhere.json")
    sidecar(engine(folder)).symlink_to(folder / "elsewhere.json")


def linked_engine(folder: Path) -> None:
    path = engine(folder)
    path.rename(folder / "elsewhere")
    path.symlink_to(folder / "elsewhere")


def a_pipe(folder: Path) -> None:
    path = engine(folder)
    path.unlink()
    os.mkfifo(path)


def claims(**changes: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = sidecar(engine(folder))
        rewritten(path, json.dumps(json.loads(path.read_text()) | changes).encode())

    return change


def another_graphs_engine(folder: Path) -> None:
    """An engine that this user did build, of another graph."""
    for suffix in ("", ".json"):
        source, target = (Path(str(engine(folder, graph)) + suffix) for graph in ("context_0_nonanchor", "h_a"))
        rewritten(target, source.read_bytes())


def another_gpus_engine(folder: Path) -> None:
    """An engine that this user did build, for another GPU, under this GPU's name."""
    for suffix in ("", ".json"):
        source, target = (Path(str(engine(folder, "h_a", capability)) + suffix) for capability in ("89", "86"))
        rewritten(target, source.read_bytes())


def a_record_that_others_can_write(folder: Path) -> None:
    (folder / "state" / "engines").chmod(0o777)


ATTACKS = [
    (cut, TruncatedEngineError, "expected .* bytes, found"),
    (emptied, TruncatedEngineError, "found 0"),
    (one_bit, TamperedEngineError, "expected SHA-256"),
    (appended, TamperedEngineError, "expected .* bytes, found"),
    (sidecar_of_the_good_engine_before_foreign_bytes, TamperedEngineError, "expected SHA-256"),
    (foreign_with_a_forged_sidecar, ForeignEngineError, "no record of"),
    (no_sidecar, ForeignEngineError, "expected its identity"),
    (no_record, ForeignEngineError, "no record of"),
    (half_a_sidecar, TamperedEngineError, "expected the identity"),
    (linked_sidecar, TamperedEngineError, "expected the identity"),
    (linked_engine, TamperedEngineError, "regular file"),
    (a_pipe, TamperedEngineError, "regular file"),
    (claims(graph_sha256="0" * 64), TamperedEngineError, "graph_sha256 '000"),
    (claims(compute_capability="12.0"), TamperedEngineError, "compute_capability '12.0'"),
    (claims(size=10), TamperedEngineError, "size 10 where"),
    (claims(size=True), TamperedEngineError, "size: found True"),
    (claims(sha256="../../" + "0" * 58), TamperedEngineError, "sha256: found"),
    (claims(schema=2), TamperedEngineError, "schema: expected 1, found 2"),
    (another_graphs_engine, TamperedEngineError, "found one of context_0_nonanchor"),
    (another_gpus_engine, ForeignEngineError, "8.6.*found one for any GPU of 8.9"),
    (a_record_that_others_can_write, EngineError, "writable by nobody else"),
]


@pytest.mark.parametrize(("attack", "kind", "message"), ATTACKS, ids=[str(i) for i in range(len(ATTACKS))])
def test_an_attack_ends_before_the_library_sees_a_byte(
    folder: Path, library: Library, attack: Callable[[Path], None], kind: type[EngineError], message: str
) -> None:
    attack(folder)
    store = store_of(folder, library)
    # The engine for 8.9 is in the way of nothing: it is foreign here.
    with pytest.raises(EngineError, match=message) as caught:
        use(store)
    assert type(caught.value) is kind
    assert caught.value.exit_code == 9
    assert caught.value.hint
    entry = next(e for e in store.entries() if e.path == engine(folder))
    assert type(entry.problem) is kind


def test_a_whole_folder_of_somebody_else(folder: Path, library: Library, tmp_path: Path) -> None:
    """Downloaded, bundle and engines and all: this user has no record of any."""
    store = store_of(folder, library)
    store = EngineStore(store.bundle, versions=store.versions, host=store.host, trust=Trust(tmp_path / "mine"))
    with pytest.raises(ForeignEngineError, match=r"no record of .* in .*mine"):
        use(store)
    assert {entry.state for entry in store.entries()} == {"foreign"}


# stale and foreign


def test_stale(folder: Path, library: Library) -> None:
    store = store_of(folder, library)
    bundle = store.bundle
    other = replace(bundle, fingerprint=bytes(32))
    with pytest.raises(StaleEngineError, match="bundle fingerprint: expected 00"):
        use(EngineStore(other, versions=store.versions, host=store.host, trust=store.trust))
    files = {**bundle.manifest["files"], "h_a.float16.onnx": {"size": 1, "sha256": "1" * 64}}
    other = replace(bundle, manifest={**bundle.manifest, "files": files})
    with pytest.raises(StaleEngineError, match=r"SHA-256 of h_a\.float16\.onnx: expected 11"):
        use(EngineStore(other, versions=store.versions, host=store.host, trust=store.trust))
    newer = {library.target: "9.9.9"}
    with pytest.raises(StaleEngineError, match=r"tensorrt-rtx version: expected 9\.9\.9, found "):
        use(EngineStore(bundle, versions=newer, host=store.host, trust=store.trust))
    manifest = {key: value for key, value in bundle.manifest.items() if key != "float16"}
    other = replace(bundle, manifest=manifest)
    with pytest.raises(StaleEngineError, match="expected float32"):
        use(EngineStore(other, versions=store.versions, host=store.host, trust=store.trust))


def test_version_compatible_engines_outlive_minor_versions(folder: Path, library: Library) -> None:
    store = store_of(folder, library)
    built = read_identity(engine(folder).parent, sidecar(engine(folder)).name)
    identity = replace(built, flags=("VERSION_COMPATIBLE",), library_version="7.1")
    store.write(identity, b"an engine", tag="rtx")
    for version, state in (("7.9", "ok"), ("8.0", "stale")):
        versions = {library.target: version}
        other = EngineStore(store.bundle, versions=versions, host=store.host, trust=store.trust)
        (entry,) = (e for e in other.entries() if "rtx7.1" in e.path.name)
        assert entry.state == state


@pytest.mark.parametrize(
    ("compatibility", "gpu", "host", "fits"),
    [
        ("none", None, (GPU, "8.6"), True),
        ("none", None, (GPU, "8.9"), False),
        ("none", GPU, (GPU, "8.6"), True),
        ("none", "NVIDIA A10", (GPU, "8.6"), False),
        ("same_compute_capability", "NVIDIA A10", (GPU, "8.6"), True),
        ("ampere_plus", "NVIDIA A10", ("NVIDIA B200", "10.0"), True),
        ("ampere_plus", "NVIDIA A10", ("NVIDIA T4", "7.5"), False),
    ],
)
def test_which_gpu_an_engine_is_for(
    folder: Path, library: Library, compatibility: str, gpu: str | None, host: tuple[str, str], fits: bool
) -> None:
    store = store_of(folder, library, Host(os=here(), gpu=host[0], compute_capability=host[1]))
    shutil.rmtree(store.bundle.path / "tensorrt-rtx")
    known = replace(read_identity_of(folder, library), hardware_compatibility=compatibility, gpu=gpu)
    store.write(known, b"an engine", tag="rtx")
    if fits:
        found = store.load("h_a", target="tensorrt-rtx", precision="float16", profile=str(PROFILE))
        assert found == VerifiedEngine(identity=found.identity, data=b"an engine")
        with pytest.raises(EngineError, match="no tensorrt-rtx engine of h_a"):
            store.load("h_a", target="tensorrt-rtx", precision="float16", profile="64x64")
    else:
        with pytest.raises(ForeignEngineError, match=f"expected an engine for {host[0]}"):
            use(store)


def read_identity_of(folder: Path, library: Library) -> Identity:
    bundle = open_bundle(folder / "bundle")
    return Identity(
        bundle="conv-tiny",
        fingerprint=bundle.fingerprint.hex(),
        graph="h_a",
        graph_sha256=bundle.manifest["files"]["h_a.float16.onnx"]["sha256"],
        target="tensorrt-rtx",
        library_version=library.version,
        compute_capability="8.6",
        os=here(),
        gpu=None,
        driver=None,
        precision="float16",
        profiles=(str(PROFILE),),
        flags=(),
        hardware_compatibility="none",
        sha256="0" * 64,
        size=0,
    )


def test_another_system(folder: Path, library: Library) -> None:
    store = store_of(folder, library, Host(os="plan9-mips", gpu=GPU, compute_capability="8.6"))
    with pytest.raises(ForeignEngineError, match="expected an engine for plan9-mips"):
        use(store)


def test_no_engine(folder: Path, library: Library) -> None:
    with pytest.raises(EngineError, match=r"no tensorrt-rtx engine of g_s .*s2c-deploy build"):
        use(store_of(folder, library), "g_s")


# the user's records


def test_where_records_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("S2C_STATE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    assert state_folder() == tmp_path / ".local" / "state" / "s2c-deploy"
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert state_folder() == tmp_path / ".local" / "state" / "s2c-deploy"
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    assert state_folder() == tmp_path / "xdg" / "s2c-deploy"
    monkeypatch.setenv("S2C_STATE", str(tmp_path / "own"))
    assert state_folder() == tmp_path / "own"


def test_records_are_the_users_alone(folder: Path, library: Library, tmp_path: Path) -> None:
    before = os.umask(0o002)
    try:
        trust = Trust(tmp_path / "new" / "state")
        trust.record(read_identity_of(folder, library))
    finally:
        os.umask(before)
    (record,) = (tmp_path / "new" / "state" / "engines").iterdir()
    assert record.stat().st_mode & 0o777 == 0o600
    assert record.parent.stat().st_mode & 0o777 == 0o700
    assert trust.recorded("0" * 64) == read_identity_of(folder, library)
    record.chmod(0o620)
    with pytest.raises(EngineError, match="writable by nobody else"):
        trust.recorded("0" * 64)


def test_a_record_under_another_hash_counts_for_nothing(folder: Path, library: Library, tmp_path: Path) -> None:
    trust = Trust(tmp_path / "state")
    trust.record(read_identity_of(folder, library))
    (record,) = (tmp_path / "state" / "engines").iterdir()
    record.rename(record.with_name("1" * 64 + ".json"))
    assert trust.recorded("1" * 64) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(field=st.sampled_from([*Identity.__annotations__, "schema"]), value=JSON, drop=st.booleans())
def test_a_malformed_identity_is_refused_or_read_as_it_is(
    tmp_path_factory: pytest.TempPathFactory, field: str, value: Any, drop: bool
) -> None:
    good = dict.fromkeys(Identity.__annotations__, "a" * 64) | {"compute_capability": "8.6"}
    data: dict[str, Any] = good | {"schema": 1, "size": 5, "profiles": [], "flags": []}
    if drop:
        del data[field]
    else:
        data[field] = value
    path = tmp_path_factory.getbasetemp() / "identity.json"
    path.write_text(json.dumps(data))
    with suppress(TamperedEngineError):  # no other error
        assert json.loads(read_identity(path.parent, path.name).to_json()) == data


def test_an_identity_reads_as_it_was_written(tmp_path: Path) -> None:
    good = dict.fromkeys(Identity.__annotations__, "a" * 64) | {"compute_capability": "8.6"}
    data: dict[str, Any] = good | {"schema": 1, "size": 5, "profiles": ["a"], "flags": []}
    (tmp_path / "i.json").write_text(json.dumps(data))
    assert json.loads(read_identity(tmp_path, "i.json").to_json()) == data
    for odd in ("8", "8.6.1", "../8.6", "-1.2"):
        (tmp_path / "i.json").write_text(json.dumps(data | {"compute_capability": odd}))
        with pytest.raises(TamperedEngineError, match="compute_capability"):
            read_identity(tmp_path, "i.json")


# looking after them


def test_prune_deletes_what_cannot_be_used(folder: Path, library: Library) -> None:
    one_bit(folder)
    store = store_of(folder, library)
    hashes = set(store.trust.hashes())
    assert [e.path for e in store.prune(dry_run=True)] == [engine(folder)]
    assert engine(folder).exists()
    damaged = engine(folder)
    assert [entry.state for entry in store.prune()] == ["tampered"]
    assert not damaged.exists()
    assert not sidecar(damaged).exists()
    assert len(hashes - set(store.trust.hashes())) == 1
    assert [entry.state for entry in store.entries()] == ["ok", "foreign"]
    assert [entry.state for entry in store.prune(foreign=True)] == ["foreign"]
    assert [entry.state for entry in store.entries()] == ["ok"]


# links in a folder from elsewhere


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file of the user's, outside of the bundle."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "profile").write_text("# mine\n")
    return tmp_path / "home" / "profile"


def build_again(folder: Path, library: Library) -> None:
    bundle, trust = open_bundle(folder / "bundle"), Trust(folder / "state")
    options: dict[str, Any] = {"compute_capabilities": ["8.6"], "profiles": [PROFILE], "graphs": ["h_a"]}
    list(build_bundle(bundle, library, trust=trust, force=True, **options))


@pytest.mark.parametrize("suffix", ["", ".json", ".log"])
@pytest.mark.parametrize("dangling", [True, False])
def test_build_writes_through_no_link(
    folder: Path, library: Library, secret: Path, suffix: str, dangling: bool
) -> None:
    path = engine(folder)
    link = path.with_name(path.name + suffix)
    link.unlink()
    link.symlink_to(secret.with_name("new") if dangling else secret)
    with pytest.raises(EngineError, match=r"cannot write .* found a symbolic link"):
        build_again(folder, library)
    assert secret.read_text() == "# mine\n"
    assert os.listdir(secret.parent) == ["profile"]


@pytest.mark.parametrize("name", ["tensorrt-rtx", "tensorrt-rtx/h_a"])
def test_a_folder_of_engines_that_is_a_link_is_neither_read_nor_written_nor_pruned(
    folder: Path, library: Library, tmp_path: Path, name: str
) -> None:
    there, elsewhere = folder / "bundle" / name, tmp_path / "elsewhere"
    there.rename(elsewhere)
    there.symlink_to(elsewhere)
    before = sorted(elsewhere.rglob("*"))
    store = store_of(folder, library)
    assert not [entry for entry in store.entries() if entry.path.parent.name == "h_a"]
    store.prune(foreign=True)
    with pytest.raises(EngineError, match="no tensorrt-rtx engine"):
        use(store)
    with pytest.raises(EngineError, match="cannot write"):
        build_again(folder, library)
    assert sorted(elsewhere.rglob("*")) == before


def test_a_pipe_in_place_of_an_engine_is_not_waited_for(folder: Path, library: Library) -> None:
    path = engine(folder)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(TamperedEngineError, match="a pipe"):
        use(store_of(folder, library))


def test_pruning_deletes_links_and_not_what_they_name(folder: Path, library: Library, secret: Path) -> None:
    path = engine(folder)
    path.unlink()
    path.symlink_to(secret)
    store = store_of(folder, library)
    assert [entry.state for entry in store.prune()] == ["tampered"]
    assert not path.is_symlink()
    assert secret.read_text() == "# mine\n"


# where records are kept


def test_a_user_without_a_home_has_no_records(folder: Path, library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("S2C_STATE", "XDG_STATE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pathlib.Path.home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    trust = Trust()
    assert trust.folder is None
    assert trust.recorded("0" * 64) is None
    assert list(trust.hashes()) == []
    trust.forget("0" * 64)
    with pytest.raises(EngineError, match=r"no \$HOME.*\$S2C_STATE"):
        trust.check_writable()


def test_a_state_folder_below_one_that_others_may_exchange(folder: Path, library: Library, tmp_path: Path) -> None:
    parent = tmp_path / "shared"
    parent.mkdir()
    trust = Trust(parent / "mine" / "state")
    trust.record(read_identity_of(folder, library))
    parent.chmod(0o777)
    with pytest.raises(EngineError, match=r"shared: expected to be this user's and writable by nobody else"):
        trust.recorded("0" * 64)
    parent.chmod(0o1777)  # with the sticky bit, as /tmp has it, nobody renames what is not theirs
    assert trust.recorded("0" * 64) is not None


def test_a_state_folder_behind_a_link_that_others_may_exchange(folder: Path, library: Library, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "link").symlink_to(tmp_path / "real")
    trust = Trust(tmp_path / "shared" / "link" / "state")
    trust.record(read_identity_of(folder, library))
    (tmp_path / "shared").chmod(0o777)
    with pytest.raises(EngineError, match="writable by nobody else"):
        trust.recorded("0" * 64)


def test_that_no_record_can_be_kept_is_said_before_building(folder: Path, library: Library, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    bundle = open_bundle(folder / "bundle")
    with pytest.raises(EngineError, match=r"cannot write .*file"):
        next(build_bundle(bundle, library, graphs=["h_a"], trust=Trust(tmp_path / "file" / "state")))
