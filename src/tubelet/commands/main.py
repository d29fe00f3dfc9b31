"""The `tubelet` command line: one file a command, imported when it is called."""

import importlib
import os
import sys

COMMANDS = {
    "train": "train a model: tubelet train model=vivit_joint_tiny data=motion",
    "eval": "evaluate a checkpoint: tubelet eval ckpt=best.ckpt",
    "predict": "class probabilities of video files: tubelet predict best.ckpt a.mp4 b.mp4",
    "order": "whether a model uses the order of frames: tubelet order ckpt=best.ckpt",
    "plot": "learning curves and confusion matrix of a run as pictures: tubelet plot runs/...",
    "scan": "what is wrong with a data set, and its index: tubelet scan data=ucf101",
    "transcode": "whether smaller files would train faster, and writing them: tubelet transcode data=kinetics400",
    "browse": "what a model is trained on, in pictures and films: tubelet browse data=ucf101 augment=randaugment",
    "profile": "what models cost in parameters, MACs and memory: tubelet profile model=vivit_joint",
    "table": "the runs of a sweep, ranked: tubelet table runs/sweep/...",
    "compare": "whether two runs differ by more than chance, and on which classes: tubelet compare RUN RUN",
}


def main() -> None:
    """Run the command named first; `tubelet COMMAND --help` tells more of each."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        print("tubelet: action recognition with video transformers\n")
        print("\n".join(f"  {name:11}{what}" for name, what in COMMANDS.items()))
        print("\ntubelet COMMAND --help tells more of each.")
        return
    name = arguments[0]
    if name not in COMMANDS:
        sys.exit(f"error: there is no command {name!r}; the commands are {', '.join(COMMANDS)}")
    sys.argv = [f"tubelet {name}", *arguments[1:]]
    try:
        importlib.import_module(f"tubelet.commands.{name}").run()
        sys.stdout.flush()
    except BrokenPipeError:  # such as `| head`, which has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + 13)  # as a shell tells of SIGPIPE
