"""Which readers that seek are installed here, and in which version: what one version reads exactly another may not."""

from functools import cache

from tubelet.video.decord import decord_version
from tubelet.video.pyav import pyav_version
from tubelet.video.torchcodec import torchcodec_version


@cache
def reader_versions() -> dict[str, str]:
    """Reader -> its version, and that of the library it decodes with, where it tells."""
    found = {"pyav_seek": pyav_version(), "decord": decord_version(), "torchcodec": torchcodec_version()}
    return {name: version for name, version in found.items() if version}
