"""Metrics as TensorBoard event files, without TensorFlow."""

import os
import pathlib
import time
from collections.abc import Mapping


class TensorBoardWriter:
    """Writes scalars and texts that `tensorboard --logdir` shows."""

    def __init__(self, directory: str | os.PathLike):
        """Args:
        directory: of event files; each start of a run adds one.
        """
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self.directory = pathlib.Path(directory)
        self._writer = EventFileWriter(str(self.directory), flush_secs=10)

    def scalars(self, step: int, metrics: Mapping[str, float]) -> None:
        """Writes the numbers of one step."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [
            Summary.Value(tag=name, simple_value=value)
            for name, value in metrics.items()
        ]
        self._add(step, summary=Summary(value=values))

    def text(self, step: int, name: str, text: str) -> None:
        """Writes a text, shown as Markdown."""
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.compat.proto.tensor_pb2 import TensorProto
        from tensorboard.compat.proto.types_pb2 import DT_STRING
        from tensorboard.plugins.text.metadata import create_summary_metadata

        tensor = TensorProto(dtype=DT_STRING, string_val=[text.encode()])
        about = create_summary_metadata(display_name=None, description=None)
        value = Summary.Value(tag=name, metadata=about, tensor=tensor)
        self._add(step, summary=Summary(value=[value]))

    def rewind(self, step: int) -> None:
        """Tells TensorBoard to forget later steps of earlier files."""
        from tensorboard.compat.proto.event_pb2 import SessionLog

        self._add(step + 1, session_log=SessionLog(status=SessionLog.START))

    def close(self) -> None:
        """Flushes and closes the file."""
        self._writer.close()

    def _add(self, step: int, **fields: object) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._writer.add_event(Event(wall_time=time.time(), step=step, **fields))
