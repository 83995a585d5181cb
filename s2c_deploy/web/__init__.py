"""Web bundles: what a decoder in a browser needs of a bundle, in fewer bytes (docs/browser.md)."""
