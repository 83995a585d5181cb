"""Trained weights to a bundle: ONNX graphs, tables, proofs, parity."""
