"""The codec: pixels to streams and back."""
