"""Reads the files that W&B leaves offline: the package itself has no reader of them.

They are logs as LevelDB writes them: after a header of 7 bytes, blocks of 32 KiB with pieces of records. A piece has a
checksum (4 bytes), its length (2) and its kind (1: whole, 2: first, 3: middle, 4: last).
"""

import json
import struct
from pathlib import Path

from wandb.proto.wandb_internal_pb2 import Record

BLOCK, HEADER, PIECE = 32 * 1024, 7, 7
WHOLE, LAST = 1, 4


def records(file):
    """Every record of one .wandb file, in order."""
    content, place, whole = file.read_bytes(), HEADER, b""
    while place + PIECE <= len(content):
        left = BLOCK - place % BLOCK
        if left < PIECE:  # too few for a piece: filled up with zeros
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, place)
        whole += content[place + PIECE : place + PIECE + length]
        place += PIECE + length
        if kind in (WHOLE, LAST):
            record = Record()
            record.ParseFromString(whole)
            yield record
            whole = b""


class Offline:
    """One run: what its `run_dir`/wandb says of it."""

    def __init__(self, run_dir: Path):
        (self.folder,) = (run_dir / "wandb").glob("offline-run-*")
        (file,) = self.folder.glob("*.wandb")
        all_records = list(records(file))
        (self.run,) = (record.run for record in all_records if record.WhichOneof("record_type") == "run")
        self.exit_codes = [r.exit.exit_code for r in all_records if r.WhichOneof("record_type") == "exit"]
        self.artifacts = [r.request.log_artifact.artifact for r in all_records if r.request.HasField("log_artifact")]
        self.artifacts += [r.artifact for r in all_records if r.WhichOneof("record_type") == "artifact"]
        self.history, self.config = [], {}
        for record in all_records:
            if record.WhichOneof("record_type") == "run":
                self._configure(record.run.config)
            if record.WhichOneof("record_type") == "config":
                self._configure(record.config)
            if record.WhichOneof("record_type") == "history":
                items = record.history.item
                self.history.append(
                    {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
                )

    def _configure(self, config):
        for item in config.update:
            self.config[item.key or "/".join(item.nested_key)] = json.loads(item.value_json)

    def values(self, key):
        """Of each row of the history that has it."""
        return [row[key] for row in self.history if key in row]

    def stored(self, path):
        """Where a file of an artifact lies until it is sent, by its path in there."""
        (content,) = [c for artifact in self.artifacts for c in artifact.manifest.contents if c.path == path]
        return Path(content.local_path)

    def table(self, key):
        """Its rows as mappings; a film is one with its path in the artifact."""
        content = json.loads(self.stored(f"{key}.table.json").read_text())
        return [dict(zip(content["columns"], row, strict=True)) for row in content["data"]]
