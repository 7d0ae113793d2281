"""The same as a Metaflow flow. `python metaflow_run.py run --folder FOLDER`."""

from __future__ import annotations

from pathlib import Path

import work
from metaflow import FlowSpec, Parameter, step


class Race(FlowSpec):
    folder = Parameter("folder", required=True)

    def do(self, stage: str) -> None:
        getattr(work, stage)(Path(self.folder).resolve())

    @step
    def start(self):
        self.do("ingest")
        self.next(self.check)

    @step
    def check(self):
        self.do("check")
        self.next(self.preprocess)

    @step
    def preprocess(self):
        self.do("preprocess")
        self.next(self.split)

    @step
    def split(self):
        self.do("split")
        self.next(self.train)

    @step
    def train(self):
        self.do("train")
        self.next(self.evaluate)

    @step
    def evaluate(self):
        self.do("evaluate")
        self.next(self.register)

    @step
    def register(self):
        self.do("register")
        self.next(self.end)

    @step
    def end(self):
        self.do("promote")


if __name__ == "__main__":
    Race()
