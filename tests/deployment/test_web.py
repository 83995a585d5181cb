"""The decoder for browsers against the Python codec: in Node, and in the page in a headless Chromium."""

from __future__ import annotations

import base64
import functools
import hashlib
import http.server
import json
import os
import shutil
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import missing

from s2c_deploy.arrays import FloatArray, Pixels
from s2c_deploy.codec.codec import Codec
from s2c_deploy.entropy.coder import Encoder, Tables
from s2c_deploy.entropy.native import crc32c
from s2c_deploy.entropy.tables import FrequencyTables, gaussian_tables
from s2c_deploy.errors import BitstreamError
from s2c_deploy.formats.bitstream import Stream, pack, parse
from s2c_deploy.formats.bundle import open_bundle
from s2c_deploy.formats.npz import npz_bytes
from s2c_deploy.web.bundle import write_web_bundle

ROOT = Path(__file__).resolve().parents[2]
WEB = ROOT / "web"
#: Height, width, quality and tile of what is decoded: whole pictures, seamless tiles, edges that are cut.
PICTURES = [(128, 192, 1, 0), (64, 96, 5, 0), (100, 150, 8, 64), (65, 70, 2.25, 0), (1, 1, 4, 0)]
#: Corners of crops of kodim23, and the qualities of each, that the browser decodes with the module itself.
CROPS = [(8, 40), (60, 300), (150, 520), (230, 16), (330, 400), (400, 250)]
CROP_SIZE = (96, 128)
QUALITIES = (1, 5, 8)
#: A page that imports the decoder as it is built.
PROGRAM = """<!doctype html><meta charset="utf-8"><title>program</title><link rel="icon" href="data:,">
<script type="importmap">{"imports": {"onnxruntime-web/wasm": "./ort/ort.wasm.min.mjs"}}</script>
"""


def run(*command: object, folder: Path = WEB, limit: float = 600, **options: Any) -> str:
    done = subprocess.run(
        list(map(str, command)), cwd=folder, capture_output=True, text=True, timeout=limit, check=False, **options
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def built() -> Path:
    """web/ as ``make web`` builds it: packages, the coder, the page."""
    if any(shutil.which(name) is None for name in ("node", "npm", "make")):
        missing("Node, npm or make is not installed", "node")
    packages = WEB / "node_modules" / ".package-lock.json"
    if (
        not packages.exists()
        and subprocess.run(["npm", "ping"], capture_output=True, timeout=120, check=False).returncode
    ):
        missing("the registry of Node's packages cannot be reached", "node")
    run("make", "web", f"VENV={sys.prefix}", folder=ROOT)
    return WEB


@pytest.fixture(scope="module")
def codec(bundle_path: Path) -> Iterator[Codec]:
    with Codec.open(bundle_path, "onnxruntime", threads=1) as codec:
        yield codec


@pytest.fixture(scope="module")
def web_bundle(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_web_bundle(open_bundle(bundle_path), tmp_path_factory.mktemp("web") / "bundle").path


@pytest.fixture(scope="module")
def cases(
    codec: Codec,
    bundle_path: Path,
    web_bundle: Path,
    photograph: Pixels,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A folder of what Python makes of streams, for web/tests (cases.ts has its form)."""
    folder = tmp_path_factory.mktemp("cases")
    found = {
        "bundles": {"bundle": os.path.relpath(bundle_path, folder), "web": os.path.relpath(web_bundle, folder)},
        "pictures": _pictures(codec, photograph[150:, 100:], folder),
        "refused": _refused(codec, photograph[150:, 300:], folder),
        "parsed": [{"hex": data.hex(), "fields": _fields(data)} for data in damaged_streams(11)],
        "payloads": list(_payloads(folder)),
    }
    (folder / "cases.json").write_text(json.dumps(found))
    return folder


@dataclass(frozen=True, kw_only=True)
class Crop:
    """A stream of a part of a photograph, and what Python makes of it."""

    data: bytes
    #: The SHA-256 of y_hat.
    latent: str
    pixels: Pixels


@pytest.fixture(scope="module")
def crops(codec: Codec, photograph: Pixels) -> list[Crop]:
    found = []
    for top, left in CROPS:
        picture = photograph[top : top + CROP_SIZE[0], left : left + CROP_SIZE[1]].copy()
        for quality in QUALITIES:
            data = codec.compress(picture, quality)
            (y_hat,) = codec.read_latents(parse(data))
            found.append(Crop(data=data, latent=_hash(y_hat), pixels=codec.decompress(data)))
    return found


def _hash(y_hat: FloatArray) -> str:
    return hashlib.sha256(np.ascontiguousarray(y_hat, "<f4").tobytes()).hexdigest()


def _pictures(codec: Codec, photograph: Pixels, folder: Path) -> list[dict[str, Any]]:
    streams = []
    for height, width, quality, tile in PICTURES:
        icc = b"profile" if tile else None
        streams.append(codec.compress(photograph[:height, :width].copy(), quality, tile=tile, icc=icc))
    # Tiles that are pictures of their own, as earlier versions wrote them.
    halves = [parse(codec.compress(photograph[:64, x : x + 64].copy(), 5)).tiles[0] for x in (0, 64)]
    described = codec.describe((64, 128), 5, tile=64)
    streams.append(pack(replace(described, tiles=tuple(halves), seamless=False)))
    found = []
    for number, data in enumerate(streams):
        stream, pixels = parse(data), codec.decompress(data)
        (folder / f"{number}.s2c").write_bytes(data)
        (folder / f"{number}.rgb").write_bytes(pixels.tobytes())
        found.append(
            {
                "stream": f"{number}.s2c",
                "latents": [_hash(y_hat) for y_hat in codec.read_latents(stream)],
                "pixels": f"{number}.rgb",
                "width": stream.width,
                "height": stream.height,
            }
        )
    return found


def _refused(codec: Codec, photograph: Pixels, folder: Path) -> dict[str, str]:
    """File name to what is said of it."""
    stream = parse(codec.compress(photograph[:64, :64].copy(), 4))
    payload = bytearray(stream.tiles[0])
    payload[-1] ^= 64
    data = pack(stream)
    wrong = {
        "fingerprint.s2c": (pack(replace(stream, fingerprint=b"stranger")), "found 737472616e676572"),
        "payload.s2c": (pack(replace(stream, tiles=(bytes(payload),))), "entropy coder: "),
        "short.s2c": (pack(replace(stream, tiles=(stream.tiles[0][:-2],))), "entropy coder: "),
        "empty.s2c": (pack(replace(stream, tiles=(stream.tiles[0][:1],))), "entropy coder: "),
        "cut.s2c": (data[:-1], "sections: expected"),
        "damaged.s2c": (data[:-1] + bytes([data[-1] ^ 1]), "section 0: checksum: expected"),
        "nothing.s2c": (b"", "magic: expected f5533243, found nothing"),
        "picture.s2c": (b"\x89PNG\r\n\x1a\n", "magic: expected f5533243, found 89504e47"),
    }
    for name, (content, _) in wrong.items():
        (folder / name).write_bytes(content)
    return {name: message for name, (_, message) in wrong.items()}


def _fields(data: bytes) -> dict[str, Any] | None:
    """As stream.test.ts has them of its own parser; None of what Python refuses."""
    try:
        stream = parse(data, max_pixels=1 << 20)
    except BitstreamError:
        return None
    tiles = []
    for number, payload in enumerate(stream.tiles):
        part = stream.part(number)
        tiles.append([part.left, part.top, part.width, part.height, crc32c(payload)])
    return {
        **{name: getattr(stream, name) for name in ("width", "height", "variant", "preset", "quality", "tile")},
        "seamless": stream.seamless,
        "fingerprint": stream.fingerprint.hex(),
        "icc": None if stream.icc is None else crc32c(stream.icc),
        "exif": None if stream.exif is None else crc32c(stream.exif),
        "tiles": tiles,
    }


def damaged_streams(seed: int) -> Iterator[bytes]:
    """Good streams, random damage, and damage whose header checksum was made right again."""
    random = np.random.default_rng(seed)
    base = Stream(
        width=64,
        height=64,
        variant="conv",
        preset="tiny",
        quality=4.0,
        tile=0,
        fingerprint=b"12345678",
        tiles=(b"payload",),
    )
    for stream in (
        base,
        replace(base, icc=b"icc", exif=b"II*\0"),
        replace(base, width=130, height=70, tile=64, tiles=(b"a", b"", b"bc", b"d", b"e", b"f" * 300)),
        replace(base, width=130, height=10, tile=64, tiles=(b"a", b"", b"bc"), seamless=True),
    ):
        data = pack(stream)
        end = 22 + 8 * (len(stream.tiles) + bool(stream.icc) + bool(stream.exif))
        yield data
        for _ in range(70):
            changed = bytearray(data[: int(random.integers(len(data) + 1))] if random.random() < 0.2 else data)
            for _ in range(int(random.integers(1, 4))):
                if changed:
                    place = int(random.integers(min(len(changed), end) if random.random() < 0.8 else len(changed)))
                    changed[place] = int(random.choice([0, 1, 255, random.integers(256)]))
            if len(changed) >= end + 4 and random.random() < 0.8:
                struct.pack_into("<I", changed, end, crc32c(bytes(changed[:end])))
            yield bytes(changed)


def _payloads(folder: Path) -> Iterator[dict[str, Any]]:
    """Symbols of every size, in several lanes and parts."""
    random = np.random.default_rng(5)
    frequencies: FrequencyTables = gaussian_tables()
    (folder / "payload_tables.npz").write_bytes(npz_bytes(frequencies.to_arrays()))
    with Tables(frequencies) as tables:
        for number, (count, reach, lanes, parts) in enumerate(
            [(5000, 40, 3, 0), (300, 32767, 0, 0), (40_000, 3, 5, 2), (100, 0, 0, 0)]
        ):
            encoder, batches = Encoder(tables), []
            for size in (count, 0, count // 3):
                indexes = random.integers(0, frequencies.count, size, dtype=np.uint8)
                symbols = random.integers(-reach, reach + 1, size).astype(np.int16)
                symbols[indexes < frequencies.skip_below] = 0
                encoder.push(symbols, indexes)
                batches.append({"indexes": indexes.tobytes().hex(), "symbols": symbols.astype("<i2").tobytes().hex()})
            payload = encoder.finish(lanes_log2=lanes, parts_log2=parts)
            (folder / f"payload_{number}").write_bytes(payload)
            yield {"tables": "payload_tables.npz", "payload": f"payload_{number}", "batches": batches}


def test_in_node(built: Path, cases: Path) -> None:
    """web/tests: the parser, the coder, whole decodings with the bundle and with its web bundle."""
    shown = run("npx", "vitest", "run", "--reporter=json", env={**os.environ, "CASES": str(cases)})
    report = json.loads(shown[shown.index("{") :])
    assert report["success"]
    assert report["numPassedTests"] >= 38
    assert report["numPendingTests"] == 0


def test_the_built_decoder_in_plain_node(built: Path, cases: Path, web_bundle: Path) -> None:
    """Without a bundler or a test runner, as a program would use it."""
    program = """
        const { S2C } = await import(process.argv[1]);
        const { readFileSync } = await import("node:fs");
        const codec = await S2C.open(process.argv[2]);
        const picture = await codec.decode(readFileSync(process.argv[3]));
        await codec.close();
        console.log(JSON.stringify([codec.name, picture.width, picture.height, picture.data.length]));
    """
    decoder = built / "dist" / "decoder" / "index.js"
    found = run("node", "--input-type=module", "-e", program, decoder, web_bundle, cases / "2.s2c")
    assert json.loads(found) == ["conv-tiny", 150, 100, 60_000]


@pytest.fixture
def site(built: Path, web_bundle: Path, cases: Path, crops: list[Crop], tmp_path: Path) -> Iterator[str]:
    """The page with a bundle and a sample beside it, on a static server below a path; and the module with the crops."""
    folder = tmp_path / "site" / "below"
    shutil.copytree(built / "dist" / "site", folder)
    shutil.rmtree(folder / "bundle", ignore_errors=True)
    shutil.rmtree(folder / "samples", ignore_errors=True)
    shutil.copytree(web_bundle, folder / "bundle")
    (folder / "samples").mkdir()
    for number, name in ((1, "a sample"), (0, "low"), (2, "high")):
        shutil.copyfile(cases / f"{number}.s2c", folder / "samples" / f"{name}.s2c")
    (folder / "samples" / "list.json").write_text('["a sample.s2c", ["low.s2c", "high.s2c"]]')
    shutil.copytree(built / "dist" / "decoder", folder / "decoder")
    (folder / "ort").symlink_to(built / "node_modules" / "onnxruntime-web" / "dist")
    (folder / "program.html").write_text(PROGRAM)
    for number, crop in enumerate(crops):
        (folder / f"crop{number}.s2c").write_bytes(crop.data)
    handler = functools.partial(_Quiet, directory=str(tmp_path / "site"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/below/"
        server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        return


def test_in_the_page(site: str, cases: Path, crops: list[Crop]) -> None:
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        missing("Chromium is not installed", "chromium")
    steps = {
        "streams": ["2.s2c", "payload.s2c", "0.s2c", "fingerprint.s2c"],
        "decoded": [f"crop{number}.s2c" for number in range(len(crops))],
    }
    shown = json.loads(run("node", "tests/page.mjs", chromium, site, cases, input=json.dumps(steps)))
    good, damaged, again, stranger, sample, high, low = shown["found"]
    for step, number in ((good, 2), (again, 0), (sample, 1), (high, 2), (low, 0)):
        assert step["error"] is None
        height, width = PICTURES[number][:2]
        found = np.frombuffer(base64.b64decode(step["pixels"]), np.uint8)
        expected = np.fromfile(cases / f"{number}.rgb", np.uint8)
        assert np.abs(found.astype(int) - expected).max() <= 1
        facts = dict(zip(step["facts"][::2], step["facts"][1::2], strict=True))
        assert facts["Picture"] == f"{width} × {height}"
        assert facts["As PNG"].endswith("times")
        assert facts["As JPEG of quality 90"].endswith("times")
        shows = f"Quality {PICTURES[number][2]:g}"
        assert step["slider"] == (shows if step in (high, low) else None)
    for step, message in ((damaged, "payload.s2c: entropy coder: "), (stranger, "found 737472616e676572")):
        assert message in step["error"]
        assert step["pixels"] is None
    assert all(url.startswith((site, "blob:", "data:")) for url in shown["requests"]), (
        "nothing is fetched from elsewhere"
    )
    assert not shown["errors"]
    assert len(shown["pictures"]) == len(crops) == len(CROPS) * len(QUALITIES)
    for crop, picture in zip(crops, shown["pictures"], strict=True):
        assert picture["latents"] == [crop.latent]
        assert picture["imageData"]
        pixels = np.frombuffer(bytes.fromhex(picture["pixels"]), np.uint8).reshape(*CROP_SIZE, 4)
        assert np.abs(pixels[..., :3].astype(int) - crop.pixels).max() <= 1
