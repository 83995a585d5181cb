"""Rate and distortion of bundles on a folder of pictures, through real files, beside other codecs.  No torch.

``evaluate_folder`` measures and compares; ``tables``, ``plot`` and ``report`` show the result.
"""

from s2c_deploy.evaluation.evaluate import Evaluation, Request, evaluate_folder

__all__ = ["Evaluation", "Request", "evaluate_folder"]
