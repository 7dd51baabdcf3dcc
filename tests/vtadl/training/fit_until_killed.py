"""Runs `vtadl fit` with the given options, and kills it in the second step of the second epoch."""

import os
import signal
import sys

from vtadl.cli import main
from vtadl.lightning_module import AnomalyDetector

step = AnomalyDetector.training_step


def killed(self, batch, batch_idx):
    if (self.current_epoch, batch_idx) == (1, 1):
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batch, batch_idx)


AnomalyDetector.training_step = killed
main(["fit", *sys.argv[1:]])
