"""From what a user names, a path, a url, a hub id or a name of the catalogue, to a file on this machine."""

import os
import re
from dataclasses import dataclass
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlparse

from torch.hub import download_url_to_file

from tubelet.weights.catalogue import CATALOGUE, Published

SUFFIXES = (".pth", ".pt", ".pyth", ".ckpt", ".bin", ".safetensors", ".npz", ".msgpack", ".tar")
HUB_FILES = ("model.safetensors", "pytorch_model.bin")
RUN_FILES = ("checkpoints/best.ckpt", "checkpoints/last.ckpt")
HUB_SETTINGS = ("config.json", "preprocessor_config.json")


@dataclass
class Found:
    """entry: of the catalogue, where the name is one of it; told: what there is to say of where the file is from."""

    path: Path
    entry: Published | None = None
    told: str = ""


def find(name: str, node: dict[str, Any]) -> Found:
    """The file that `model.pretrained=name` means, fetched if need be. Raises FileNotFoundError, OSError, ValueError.

    node: the `model` node of the config, which the catalogue is asked for
    """
    if not name:
        raise ValueError("model.pretrained= is empty; type a path, a url, a hub id or a name, or leave it out")
    path = Path(name).expanduser()
    if path.exists():
        return Found(file_of(path))
    entries = [entry for entry in CATALOGUE if entry.is_for(node)]
    entry = next((entry for entry in entries if entry.name == name), None)
    if entry:
        top1 = "" if entry.top1 is None else f", published top-1 {entry.top1:g} %"
        found = fetch(entry.source, entry.sha256)
        return Found(found.path, entry, f"{entry.source}, {entry.licence}{top1}{found.told}")
    is_hub_id = re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name) and not name.endswith(SUFFIXES)
    if urlparse(name).scheme in ("http", "https") or is_hub_id:
        found = fetch(name, None)
        return Found(found.path, None, f"{name}{found.told}")
    names = ", ".join(entry.name for entry in entries) or "none"
    raise FileNotFoundError(
        f"model.pretrained={name}: there is no such file, and no such name in the catalogue, which has for "
        f"{str(node.get('_target_')).rpartition('.')[2]} of this size: {names}; a hub id is org/name"
    )


def place_without_file(name: str, node: dict[str, Any]) -> Path | None:
    """Where the weights of a name of the catalogue belong, if they are not on this machine; None if they are.

    None also for what is no such name, such as a path.
    """
    entry = next((entry for entry in CATALOGUE if entry.is_for(node) and entry.name == name), None)
    if entry is None or Path(name).expanduser().exists():
        return None
    if "://" in entry.source:
        place = place_of(entry.source)
        return None if place.exists() else place
    folder = cache() / "hub" / entry.source
    return None if folder.is_dir() or in_hub_cache(entry.source) else folder


def in_hub_cache(hub_id: str) -> bool:
    """Whether huggingface_hub has fetched these weights before."""
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return False
    return any(isinstance(try_to_load_from_cache(hub_id, name), str) for name in HUB_FILES)


def file_of(path: Path) -> Path:
    """The file itself, or the weights in a folder as transformers saves it."""
    if path.is_file():
        return path
    for name in HUB_FILES:
        if (path / name).is_file():
            return path / name
    for name in RUN_FILES:
        if (path / name).is_file():
            raise FileNotFoundError(f"model.pretrained={path} is the folder of a run; type the file: {path / name}")
    raise FileNotFoundError(f"model.pretrained={path}: the folder holds neither {' nor '.join(HUB_FILES)}")


def fetch(source: str, expected: str | None) -> Found:
    """expected: the sha256 of the file at a url, whole or its beginning."""
    return from_url(source, expected) if "://" in source else from_hub(source)


def cache() -> Path:
    """The folder of downloads: $TUBELET_CACHE, or tubelet in the user's cache."""
    user = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("TUBELET_CACHE") or Path(user, "tubelet"))


def place_of(url: str) -> Path:
    """Where in the cache the file of a url lies: by its host and path, and where it has a query, by that too."""
    parsed = urlparse(url)
    host, *folders, name = [parsed.netloc, *parsed.path.strip("/").split("/")]
    if ".." in (host, *folders, name) or not name:
        raise ValueError(f"model.pretrained={url}: a url of a file is needed, without `..` in it")
    query = [sha256(parsed.query.encode()).hexdigest()[:16]] if parsed.query else []
    return cache().joinpath(host, *folders, *query, name)


def sha256_of(path: Path) -> str:
    with open(path, "rb") as file:
        return file_digest(file, "sha256").hexdigest()


def from_url(url: str, expected: str | None) -> Found:
    """Download once, with a bar, to a place that tells the url; the file appears there when it is whole.

    What lies there already, from before or placed by hand, is checked as a download is.
    """
    path = place_of(url)
    note = "" if expected else "; its sha256 is not known and was not checked"
    if path.exists():
        if expected and not sha256_of(path).startswith(expected):
            raise ValueError(
                f"model.pretrained: {path} has another sha256 than {expected} of {url}; delete it, or mend it"
            )
        return Found(path, told=note)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        download_url_to_file(url, str(path), hash_prefix=expected, progress=True)
    except RuntimeError as error:  # torch's word for a checksum that differs
        raise ValueError(f"model.pretrained: {url} has another sha256 than {expected}: {error}") from error
    except OSError as error:  # urllib's errors are these
        if isinstance(error, HTTPError):
            error.close()
        place = f"download it elsewhere and put it at {path}"
        raise OSError(f"model.pretrained: {url} cannot be fetched ({error}); {place}") from error
    return Found(path, told=note)


def from_hub(hub_id: str) -> Found:
    """The weights of a repository on huggingface.co, with the settings that stand beside them."""
    folder = cache() / "hub" / hub_id
    if folder.is_dir():
        return Found(file_of(folder))
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise ValueError(f"model.pretrained={hub_id}: a hub id needs `pip install huggingface_hub`") from error
    try:
        names = [HUB_FILES[0], *HUB_SETTINGS]
        found = Path(snapshot_download(hub_id, allow_patterns=names))
        if not (found / HUB_FILES[0]).exists():
            found = Path(snapshot_download(hub_id, allow_patterns=[HUB_FILES[1], *HUB_SETTINGS]))
    except Exception as error:  # of the network, of the hub, of its http library, which differs from version to version
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise OSError(
            f"model.pretrained={hub_id}: there is no such folder here, and it cannot be fetched from huggingface.co "
            f"({reason}); mend the path, or, if it is a hub id, download its "
            f"{HUB_FILES[0]}, {' and '.join(HUB_SETTINGS)} elsewhere and put them into {folder}"
        ) from error
    return Found(file_of(found))
