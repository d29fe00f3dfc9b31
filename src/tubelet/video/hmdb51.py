"""HMDB51 (Kuehne et al. 2011): a file for each class and split, videos in class folders."""

import logging
import os
import re
from pathlib import Path

from tubelet.video.annotations import Catalogue, Video
from tubelet.video.disk import class_folders, folders_in, list_videos, locate, read_lines, video_home

log = logging.getLogger(__name__)
GET_HMDB51 = (
    "HMDB51 is at serre.lab.brown.edu/hmdb51.html: unpack hmdb51_org.rar, the rar files in it, and "
    "test_train_splits.rar there"
)
LIST = re.compile(r"(.+)_test_split(\d+)\.txt")
NUM_CLASSES = 51
UNUSED, TRAIN, TEST = "0", "1", "2"


def read_hmdb51(root: str, split: int, videos: str | None = None) -> Catalogue:
    """HMDB51 as it is distributed; the official test videos serve as validation too. Classes are sorted by name.

    root: holds <class>_test_split<N>.txt, directly or in a folder such as testTrainMulti_7030_splits, and the videos in
        class folders, directly or in a folder such as hmdb51_org
    split: N, 1 to 3
    videos: the folder of root that holds the videos; None looks for them in root and in all of its folders

    Raises FileNotFoundError or ValueError.
    """
    top = Path(root)
    places = [top, *folders_in(top)] if top.is_dir() else []
    lists = next((place for place in places if any(LIST.fullmatch(name) for name in os.listdir(place))), None)
    if lists is None:
        raise FileNotFoundError(
            f"data.root={root}: no <class>_test_split1.txt in it or in a folder of it. {GET_HMDB51}"
        )
    listed = parse_hmdb51(lists, split)
    if len(listed.classes) != NUM_CLASSES:
        log.warning(
            "%s holds the lists of %d classes, not of the %d of HMDB51", lists, len(listed.classes), NUM_CLASSES
        )
    home = video_home(root, videos)
    found = list_videos(class_folders([home, *folders_in(home)], listed.classes))
    return locate(
        listed,
        find=lambda name: found.get(os.path.splitext(os.path.basename(name))[0]),
        expected=lambda name: os.path.join(home, name),
        source=GET_HMDB51,
    )


def parse_hmdb51(folder: Path, split: int) -> Catalogue:
    """The official lists in a folder -> videos by `<class>/<name as listed>`."""
    matches = [match for match in map(LIST.fullmatch, sorted(os.listdir(folder))) if match]
    classes = sorted({match[1] for match in matches})
    videos: dict[str, list[Video]] = {TRAIN: [], TEST: [], UNUSED: []}
    for label, class_name in enumerate(classes):
        file = folder / f"{class_name}_test_split{split}.txt"
        if not file.exists():
            raise FileNotFoundError(f"data.split={split}: there is no {file}")
        for line in read_lines(file):
            name, mark = ["", *line.rsplit(maxsplit=1)][-2:]
            if mark not in videos or not name:
                raise ValueError(f"{file}: expected a video and 0 (unused), 1 (train) or 2 (test), found {line!r}")
            videos[mark].append(Video(f"{class_name}/{name}", label))
    return Catalogue(classes, videos[TRAIN], videos[TEST], videos[TEST])
